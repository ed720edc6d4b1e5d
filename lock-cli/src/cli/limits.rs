//! The limits that `turnlock serve --limit NAME=N` sets, under the names that its metrics give them.

use backend_embedded::Limits;
use backend_embedded::server::ServerLimits;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Number,
    Bytes,
}

/// Where a limit is set.
#[derive(Debug, Clone, Copy)]
enum Place {
    Coordinator(fn(&mut Limits, usize)),
    Server(fn(&mut ServerLimits, usize)),
}

/// Makes the table of limits: each has the name of the field that it sets.
macro_rules! limits {
    ($($place:ident $field:ident $unit:ident,)*) => {
        &[$((
            stringify!($field),
            Unit::$unit,
            Place::$place(|limits, value| limits.$field = value as _),
        ),)*]
    };
}

/// Every limit, in the order of docs/limits.md.
const LIMITS: &[(&str, Unit, Place)] = limits![
    Server connections Number,
    Server connections_of_client Number,
    Server streams Number,
    Server streams_of_client Number,
    Server request_bytes Bytes,
    Server answer_bytes Bytes,
    Coordinator request_keys Number,
    Coordinator request_answer_bytes Bytes,
    Coordinator store_bytes Bytes,
    Coordinator pending_requests Number,
    Coordinator pending_bytes Bytes,
    Coordinator leases Number,
    Coordinator leases_of_subject Number,
    Coordinator lease_keys Number,
    Coordinator watches Number,
    Coordinator watch_queue_events Number,
    Coordinator watch_queue_bytes Bytes,
    Coordinator watch_backlog_bytes Bytes,
    Coordinator history_events Number,
    Coordinator history_bytes Bytes,
];

/// One limit, and its value.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    name: &'static str,
    place: Place,
    value: usize,
}

/// Parses `NAME=N`.
///
/// # Errors
/// What is wrong, with the names that there are.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| "not of the form NAME=N, such as leases=20000".to_owned())?;
    let (name, unit, place) = LIMITS.iter().find(|(it, ..)| *it == name).ok_or_else(|| {
        let names: Vec<_> = LIMITS.iter().map(|(name, ..)| *name).collect();
        let names = names.join(", ");
        format!("there is no limit {name:?}; there are {names}")
    })?;
    let value = parse_value(value, *unit)
        .filter(|value| *value > 0)
        .ok_or_else(|| match unit {
            Unit::Number => format!("{value:?} is not a whole number of 1 or more"),
            Unit::Bytes => {
                format!("{value:?} is not a number of bytes of 1 or more, such as 1048576 or 1MiB")
            }
        })?;
    Ok(Limit {
        name,
        place: *place,
        value,
    })
}

fn parse_value(text: &str, unit: Unit) -> Option<usize> {
    const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let mut units = UNITS.iter().filter(|_| unit == Unit::Bytes);
    let (number, shift) = units
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .unwrap_or((text, 0));
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// Returns the limits of the coordinator and of its server with these values, and the defaults for
/// the rest. Of two values for one limit, the later one counts. If there is one for all and none for
/// one client, a client has half.
pub fn apply(limits: &[Limit], max_waiters: Option<usize>) -> (Limits, ServerLimits) {
    let mut coordinator = Limits::default();
    let mut server = ServerLimits::default();
    for limit in limits {
        match limit.place {
            Place::Coordinator(set) => set(&mut coordinator, limit.value),
            Place::Server(set) => set(&mut server, limit.value),
        }
    }
    let is_alone = |all: &str, of_one: &str| {
        let is_set = |name: &str| limits.iter().any(|limit| limit.name == name);
        is_set(all) && !is_set(of_one)
    };
    if is_alone("connections", "connections_of_client") {
        server.connections_of_client = server.connections.div_ceil(2);
    }
    if is_alone("streams", "streams_of_client") {
        server.streams_of_client = server.streams.div_ceil(2);
    }
    if is_alone("leases", "leases_of_subject") {
        coordinator.leases_of_subject = coordinator.leases.div_ceil(2);
    }
    if let Some(waiters) = max_waiters {
        // The first of a queue does not wait.
        coordinator.queue_entries = waiters.saturating_add(1);
    }
    (coordinator, server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_set_by_its_name() {
        for &(name, unit, _) in LIMITS {
            let limit = parse_limit(&format!("{name}=77")).expect("a limit");
            let limits = format!("{:?}", apply(&[limit], None));
            assert!(limits.contains(&format!("{name}: 77")), "{name}: {limits}");
            let in_mib = parse_limit(&format!("{name}=3MiB"));
            assert_eq!(in_mib.is_ok(), unit == Unit::Bytes, "{name}");
        }
        let (limits, _) = apply(&[], Some(9));
        assert_eq!(limits.queue_entries, 10);
    }

    #[test]
    fn a_client_has_half_unless_it_has_a_limit_of_its_own() {
        let parse = |text| parse_limit(text).expect("a limit");
        let (limits, server) = apply(
            &["leases=9", "streams=1", "connections=20"].map(parse),
            None,
        );
        assert_eq!(limits.leases_of_subject, 5);
        assert_eq!(server.streams_of_client, 1);
        assert_eq!(server.connections_of_client, 10);
        let (limits, _) = apply(&["leases_of_subject=7", "leases=9"].map(parse), None);
        assert_eq!(limits.leases_of_subject, 7);
    }

    #[test]
    fn a_wrong_limit_is_named_with_the_remedy() {
        for (text, remedy) in [
            ("leases", "NAME=N"),
            ("lease=1", "leases_of_subject"),
            ("leases=0", "1 or more"),
            ("leases=1.5", "whole number"),
            ("store_bytes=1GB", "1MiB"),
            ("store_bytes=99999999999GiB", "1MiB"),
            ("store_bytes=KiB", "1MiB"),
        ] {
            let error = parse_limit(text).expect_err(text);
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
