//! Durations as they are typed.

use std::time::Duration;

/// Parses seconds with a fraction, as `flock -w` takes them, or a number with its unit.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    // `ms` before the others: it ends with one of them.
    const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, secs)| Some((text.strip_suffix(unit)?, *secs)))
        .unwrap_or((text, 1.0));
    let number: f64 = number.parse().map_err(|_| {
        "not a number of seconds, such as 0.5, or a number with ms, s, m or h".to_owned()
    })?;
    Duration::try_from_secs_f64(number * unit)
        .map_err(|_| "not a number of seconds of zero or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_take_fractions_and_units_and_nothing_else() {
        for (text, millis) in [
            ("0.5", 500),
            ("5s", 5_000),
            ("500ms", 500),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("0", 0),
        ] {
            assert_eq!(
                parse_seconds(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in [
            "", "-1", "nan", "inf", "1e300", "s", "5 s", "5d", "5sm", "-1s",
        ] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
