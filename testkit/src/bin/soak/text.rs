//! Writes numbers for people.

/// Returns a number with a comma between its thousands.
pub fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a length of time in days, hours, minutes or seconds.
pub fn to_length(seconds: f64) -> String {
    match seconds {
        86_400.0.. => format!("{:.1} days", seconds / 86_400.0),
        3_600.0.. => format!("{:.1} h", seconds / 3_600.0),
        60.0.. => format!("{:.1} min", seconds / 60.0),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (25_000_000, "25,000,000"),
        ] {
            assert_eq!(group_digits(number), text);
        }
    }

    #[test]
    fn a_length_has_the_unit_that_fits() {
        for (seconds, text) in [
            (0.4, "0 s"),
            (59.0, "59 s"),
            (90.0, "1.5 min"),
            (5_400.0, "1.5 h"),
            (864_000.0, "10.0 days"),
        ] {
            assert_eq!(to_length(seconds), text);
        }
    }
}
