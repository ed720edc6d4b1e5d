//! When a certificate ends.

use super::der::{Der, EXPLICIT_0, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME};

/// Reads until when a certificate is valid, in seconds of Unix time. Returns `None` if this is no
/// certificate.
pub(super) fn read_not_after(certificate: &[u8]) -> Option<i64> {
    let mut signed = Der::new(Der::new(certificate).take(SEQUENCE)?);
    let mut certificate = Der::new(signed.take(SEQUENCE)?);
    // The version may be absent.
    let _ = certificate.take(EXPLICIT_0);
    let _serial_number = certificate.take(INTEGER)?;
    let _signature_algorithm = certificate.take(SEQUENCE)?;
    let _issuer = certificate.take(SEQUENCE)?;
    let mut validity = Der::new(certificate.take(SEQUENCE)?);
    let _not_before = validity.take_any()?;
    match validity.take_any()? {
        (UTC_TIME, text) => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            // RFC 5280, 4.1.2.5.1.
            let century = if year >= 50 { 1900 } else { 2000 };
            parse_rest(century + year, rest)
        }
        (GENERALIZED_TIME, text) => {
            let (year, rest) = text.split_at_checked(4)?;
            parse_rest(number(year)?, rest)
        }
        _ => None,
    }
}

/// Parses month, day, hour, minute and second, of two digits each, and the Z.
fn parse_rest(year: i64, text: &[u8]) -> Option<i64> {
    let digits = text
        .strip_suffix(b"Z")
        .filter(|digits| digits.len() == 10)?;
    let mut parts = digits.chunks_exact(2).map(number);
    let mut next = |least, most| {
        let part = parts.next()??;
        (least..=most).contains(&part).then_some(part)
    };
    let (month, day) = (next(1, 12)?, next(1, 31)?);
    let (hour, minute, second) = (next(0, 23)?, next(0, 59)?, next(0, 60)?);
    let days = days_since_1970(year, month, day);
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        Some(sum * 10 + digit)
    })
}

/// Counts days in the Gregorian calendar. The year is taken to begin in March, so that the day of a
/// leap year is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    // From March on, the months' lengths repeat every five months, which have 153 days.
    let days_before_month = (153 * month + 2) / 5;
    // Day 0 is the first of March of the year 0, which is 719,468 days before 1970.
    year * 365 + leap_days + days_before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // `date -u -d ... +%s`
        for (year, rest, seconds) in [
            (1970, "0101000000Z", 0),
            (2000, "0229235959Z", 951_868_799),
            (2000, "0301000000Z", 951_868_800),
            (2026, "1129204723Z", 1_795_985_243),
            (2049, "1231235959Z", 2_524_607_999),
            (2100, "0301000000Z", 4_107_542_400),
            (9999, "1231235959Z", 253_402_300_799),
        ] {
            assert_eq!(
                parse_rest(year, rest.as_bytes()),
                Some(seconds),
                "{year} {rest}"
            );
        }
        for wrong in [
            "",
            "0101000000",
            "1301000000Z",
            "0100000000Z",
            "01010000-0Z",
            "01012400000Z",
        ] {
            assert_eq!(parse_rest(2000, wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0_u8.., 0..64)) {
            let _ = read_not_after(&bytes);
        }
    }
}
