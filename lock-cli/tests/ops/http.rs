//! As much of HTTP as these tests need.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the body of the answer to a GET.
pub fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // Of version 1.0, so that the body has no chunks and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(answer)),
    }
}

/// Returns the value of a series in a scrape.
pub fn value(scrape: &str, series: &str) -> Option<f64> {
    let line = scrape.lines().find(|line| {
        let rest = line.strip_prefix(series);
        rest.is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Answers each request on a thread of its own: with the status and the body that the function
/// returns for the body of the request.
pub fn answer(
    listener: TcpListener,
    respond: impl Fn(String) -> (&'static str, String) + Send + Sync + 'static,
) {
    let respond = Arc::new(respond);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let respond = Arc::clone(&respond);
            std::thread::spawn(move || drop(answer_one(stream, &*respond)));
        }
    });
}

fn answer_one(
    mut stream: TcpStream,
    respond: &dyn Fn(String) -> (&'static str, String),
) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, text) = respond(String::from_utf8_lossy(&body).into_owned());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Notes the bodies of all requests, as PagerDuty would, and returns them.
pub fn stand_in_for_pagerduty() -> (u16, Arc<Mutex<Vec<serde_json::Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let pages = Arc::<Mutex<Vec<serde_json::Value>>>::default();
    let noted = Arc::clone(&pages);
    answer(listener, move |body| {
        let page = serde_json::from_str(&body).expect("PagerDuty is sent JSON");
        noted.lock().expect("no panic").push(page);
        ("202 Accepted", r#"{"status":"success"}"#.to_owned())
    });
    (port, pages)
}
