//! The parts that the URLs of all coordinators share: addresses and parameters.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use lock_core::{Error, ErrorKind};

/// The shortest time limit of a connection or of an answer.
pub const SHORTEST_TIMEOUT: Duration = Duration::from_millis(50);
/// The longest time limit of a connection or of an answer.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Refuses a URL with an `@` after its scheme, since the text before that may be a password. Call
/// this before anything else, so that no error shows it: the error of this function does not.
///
/// # Errors
/// [`ErrorKind::Configuration`] says where credentials belong.
///
/// # Examples
/// ```
/// use backend_kit::url::refuse_credentials;
///
/// assert!(refuse_credentials("h1:2379,h2:2379?user=ci").is_ok());
/// assert!(refuse_credentials("ci:secret@h1:2379").is_err());
/// ```
pub fn refuse_credentials(rest: &str) -> Result<(), Error> {
    if rest.contains('@') {
        return Err(config_error(
            "the coordinator's URL has an '@': give a user in the parameter user and the password \
             in a file or the environment (write %40 for an '@' in a value)",
        ));
    }
    Ok(())
}

/// Parses the parameters of a query, in order, with their values percent-decoded.
///
/// # Errors
/// [`ErrorKind::Configuration`] if a parameter is given twice or is not UTF-8.
pub fn parse_parameters(query: &str) -> Result<Vec<(&str, String)>, Error> {
    let mut parameters: Vec<(&str, String)> = Vec::new();
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if parameters.iter().any(|(seen, _)| *seen == key) {
            return Err(config_error(format!(
                "the parameter {key:?} is given twice: give it once"
            )));
        }
        parameters.push((key, decode(value)?));
    }
    Ok(parameters)
}

/// Parses `host`, `host:port` or `[IPv6]:port`. Returns the host (IPv6 without brackets) and the
/// port.
///
/// # Errors
/// [`ErrorKind::Configuration`] names the address and what is wrong with it.
///
/// # Examples
/// ```
/// use backend_kit::url::parse_address;
///
/// assert_eq!(parse_address("[::1]", 2379)?, ("::1".to_owned(), 2379));
/// # Ok::<(), lock_core::Error>(())
/// ```
pub fn parse_address(address: &str, default_port: u16) -> Result<(String, u16), Error> {
    let unusable = |why: &str| {
        Err(config_error(format!(
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

/// Decodes a percent-encoded text.
///
/// # Errors
/// [`ErrorKind::Configuration`] if it is not UTF-8.
pub fn decode(text: &str) -> Result<String, Error> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|error| {
            config_error("the coordinator's URL is not UTF-8 when percent-decoded")
                .with_source(error)
        })
}

/// Parses the time of a parameter, such as `500ms` or `2s`.
///
/// # Errors
/// [`ErrorKind::Configuration`] names the parameter and how to write it.
pub fn parse_duration(key: &str, text: &str) -> Result<Duration, Error> {
    let number = |digits: &str| digits.parse::<u32>().ok().map(u64::from);
    let parsed = if let Some(digits) = text.strip_suffix("ms") {
        number(digits).map(Duration::from_millis)
    } else {
        text.strip_suffix('s')
            .and_then(number)
            .map(Duration::from_secs)
    };
    parsed.ok_or_else(|| {
        config_error(format!(
            "the parameter {key:?} is {text:?}, not a time: write it like 500ms or 2s"
        ))
    })
}

/// Checks that a time limit is between [`SHORTEST_TIMEOUT`] and [`LONGEST_TIMEOUT`], and returns
/// it.
///
/// # Errors
/// [`ErrorKind::Configuration`] names the parameter and the bounds.
pub fn check_timeout(key: &str, timeout: Duration) -> Result<Duration, Error> {
    if (SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(&timeout) {
        Ok(timeout)
    } else {
        Err(config_error(format!(
            "a {key} of {timeout:?} is out of bounds: give {SHORTEST_TIMEOUT:?} to \
             {LONGEST_TIMEOUT:?}"
        )))
    }
}

/// Returns whether the host is this machine, so that nobody on a network can listen.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn config_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}
