//! The metrics of a coordinator on this machine: where they are served, and how they are asked for.

use std::io;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backend_embedded::server::{
    Listen, MAX_SOCKET_PATH_BYTES, MetricsListener, remove_stale_socket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::exit::{Exit, Failure, with_causes};

/// The name of the socket, beside that of the coordinator.
const SOCKET: &str = "metrics.sock";

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Returns the socket for metrics beside the coordinator's own.
pub fn socket_beside(socket: &Path) -> PathBuf {
    socket.with_file_name(SOCKET)
}

/// Parses what `--metrics-listen` takes: other machines may read metrics.
pub fn parse_listen(text: &str) -> Result<Listen, Failure> {
    let usage = |reason: String| {
        Failure::new(Exit::Usage, format!("--metrics-listen {text}: {reason}"))
            .hint("give HOST:PORT, such as 127.0.0.1:9464, or unix:PATH")
    };
    if text.starts_with("unix:") {
        return text.parse().map_err(|error| usage(with_causes(&error)));
    }
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| usage(error.to_string()))?;
    let first = addresses.next();
    (first.map(Listen::Tcp)).ok_or_else(|| usage("the name has no address".to_owned()))
}

/// Binds what the user asked for, and a socket beside this coordinator's own. This process has
/// the coordinator's folder by now, so nobody else uses a socket in it.
pub fn bind(asked: &[Listen], beside: Option<Listen>) -> Result<Vec<MetricsListener>, Failure> {
    let failed = |text: String| Failure::new(Exit::Configuration, text);
    let mut bound = Vec::with_capacity(asked.len() + 1);
    if let Some(beside) = beside
        && let Listen::Unix(path) | Listen::UnixOfGroup(path, _) = &beside
        && path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES
    {
        remove_stale_socket(path)
            .map_err(|error| failed(format!("{}: {error}", path.display())))?;
        bound.push(MetricsListener::bind(&beside).map_err(|error| failed(with_causes(&error)))?);
    }
    for listen in asked {
        let listener = MetricsListener::bind(listen).map_err(|error| {
            failed(format!("--metrics-listen: {}", with_causes(&error)))
                .hint("another process may use this port; choose another one")
        })?;
        bound.push(listener);
    }
    Ok(bound)
}

/// Asks for the metrics at a socket.
///
/// # Errors
/// The error of the system, or of a server that answers something else.
pub async fn fetch(socket: &Path) -> io::Result<String> {
    let fetching = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(REQUEST.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(MAX_ANSWER_BYTES)
            .read_to_end(&mut answer)
            .await?;
        parse_answer(answer)
    };
    let fetched = tokio::time::timeout(TIMEOUT, fetching).await;
    fetched.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Returns the body of an answer, whose length it states.
fn parse_answer(answer: Vec<u8>) -> io::Result<String> {
    let strange = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let text = String::from_utf8(answer).map_err(|_| strange("the answer is not UTF-8"))?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| strange("the answer has no end of its head"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(strange(body.lines().next().unwrap_or("an empty answer")));
    }
    let lines = head.to_ascii_lowercase();
    let length = lines.lines().find_map(|line| {
        let length = line.strip_prefix("content-length:")?;
        length.trim().parse::<usize>().ok()
    });
    match length == Some(body.len()) {
        true => Ok(body.to_owned()),
        false => Err(strange("the answer ends too early")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let parse = |text: &str| parse_answer(text.as_bytes().to_vec());
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na 1";
        assert_eq!(parse(whole).expect("whole"), "a 1");
        for (text, said) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na 1",
                "too early",
            ),
            ("HTTP/1.1 200 OK\r\n\r\na 1", "too early"),
            (
                "HTTP/1.1 503 Unavailable\r\n\r\nthe disk hangs\n",
                "the disk hangs",
            ),
            ("", "no end"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_that_others_reach_is_taken() {
        let parsed = parse_listen("0.0.0.0:9464").expect("an address");
        assert_eq!(parsed, Listen::Tcp(([0, 0, 0, 0], 9464).into()));
        let parsed = parse_listen("unix:/a/b").expect("a socket");
        assert_eq!(parsed, Listen::Unix("/a/b".into()));
        for wrong in ["", "9464", "unix:", "host:port"] {
            assert!(parse_listen(wrong).is_err(), "{wrong}");
        }
    }
}
