//! The parts that the URLs of all coordinators have, for the backends: addresses and parameters.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use lock_core::{Error, ErrorKind};

/// Shortest time that can be given to a connection or an answer.
pub const SHORTEST_TIMEOUT: Duration = Duration::from_millis(50);
/// Longest time that can be given to a connection or an answer.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Refuses what stands after the scheme if there is an `@` in it: what stands before that may be a
/// password. To be called first of all; says no word of it.
///
/// # Errors
/// [`ErrorKind::Configuration`] says where credentials belong.
pub fn refuse_credentials(rest: &str) -> Result<(), Error> {
    if rest.contains('@') {
        return Err(wrong(
            "the coordinator's URL has an '@': give a user in the parameter user and the password in a file or the environment (write %40 for an '@' in a value)",
        ));
    }
    Ok(())
}

/// The parameters of a query, in order, their values percent-decoded.
///
/// # Errors
/// [`ErrorKind::Configuration`] if one is given twice or is not UTF-8.
pub fn parameters(query: &str) -> Result<Vec<(&str, String)>, Error> {
    let mut parameters: Vec<(&str, String)> = Vec::new();
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if parameters.iter().any(|(seen, _)| *seen == key) {
            return Err(wrong(format!(
                "the parameter {key:?} is given twice: give it once"
            )));
        }
        parameters.push((key, decoded(value)?));
    }
    Ok(parameters)
}

/// The host (IPv6 without brackets) and port of `host`, `host:port` or `[IPv6]:port`.
///
/// # Errors
/// [`ErrorKind::Configuration`] names the address and what is wrong with it.
pub fn address(address: &str, default_port: u16) -> Result<(String, u16), Error> {
    let unusable = |why: &str| {
        Err(wrong(format!(
            "the coordinator's address {address:?} {why}: write HOST:PORT, or [IPv6]:PORT"
        )))
    };
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return unusable("has no closing bracket");
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return unusable("is not an IPv6 address in its brackets");
        }
        match port {
            "" => (host, None),
            _ => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return unusable("has something between the bracket and the port"),
            },
        }
    } else {
        match address.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return unusable("has more than one ':' outside of brackets");
            }
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    if host.is_empty() {
        return unusable("has no host");
    }
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if !host.chars().all(named) {
        return unusable("has a character that no host has");
    }
    match port.map(str::parse) {
        None => Ok((host.to_owned(), default_port)),
        Some(Ok(0) | Err(_)) => unusable("has no port between 1 and 65535"),
        Some(Ok(port)) => Ok((host.to_owned(), port)),
    }
}

/// A percent-encoded text.
///
/// # Errors
/// [`ErrorKind::Configuration`] if it is not UTF-8.
pub fn decoded(text: &str) -> Result<String, Error> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|error| {
            wrong("the coordinator's URL is not UTF-8 when percent-decoded").with_source(error)
        })
}

/// The time that a parameter gives, like `500ms` or `2s`.
///
/// # Errors
/// [`ErrorKind::Configuration`] names the parameter and how to write it.
pub fn duration(key: &str, text: &str) -> Result<Duration, Error> {
    let number = |digits: &str| digits.parse::<u32>().ok().map(u64::from);
    let parsed = if let Some(digits) = text.strip_suffix("ms") {
        number(digits).map(Duration::from_millis)
    } else {
        text.strip_suffix('s')
            .and_then(number)
            .map(Duration::from_secs)
    };
    parsed.ok_or_else(|| {
        wrong(format!(
            "the parameter {key:?} is {text:?}, not a time: write it like 500ms or 2s"
        ))
    })
}

/// A time between [`SHORTEST_TIMEOUT`] and [`LONGEST_TIMEOUT`].
///
/// # Errors
/// [`ErrorKind::Configuration`] names the parameter and the bounds.
pub fn timeout(key: &str, timeout: Duration) -> Result<Duration, Error> {
    if (SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(&timeout) {
        Ok(timeout)
    } else {
        Err(wrong(format!(
            "a {key} of {timeout:?} is out of bounds: give {SHORTEST_TIMEOUT:?} to {LONGEST_TIMEOUT:?}"
        )))
    }
}

/// Whether nobody on the way to this host can listen.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}
