//! Takes the sockets that a service manager has opened: the protocol of sd_listen_fds(3).

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::process;

use backend_embedded::server::InheritedListener;
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::exit::{Exit, Failure};

/// The name of a socket for metrics and probes. Sockets of any other name serve locks.
const METRICS: &str = "metrics";

/// The most sockets that are taken.
const MAX_SOCKETS: usize = 64;

/// The sockets that a service manager has opened for this process.
#[derive(Debug, Default)]
pub struct Inherited {
    pub locks: Vec<InheritedListener>,
    pub metrics: Vec<InheritedListener>,
}

impl Inherited {
    /// Takes the sockets, and their variables out of the environment. So this must come before the
    /// first thread.
    ///
    /// # Errors
    /// What was passed on is not a listening stream socket.
    pub fn take() -> Result<Self, Failure> {
        let mut inherited = Inherited::default();
        // Variables without a process id, or with another one, were meant for somebody else.
        if env::var("LISTEN_PID").ok() != Some(process::id().to_string()) {
            return Ok(inherited);
        }
        let count = env::var("LISTEN_FDS").unwrap_or_default();
        if !count.parse().is_ok_and(|count: usize| count <= MAX_SOCKETS) {
            let message = format!("LISTEN_FDS={count} is not a number up to {MAX_SOCKETS}");
            return Err(Failure::new(Exit::Configuration, message));
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut found = ListenFd::from_env();
        for index in 0..found.len() {
            let name = names.next().unwrap_or_default();
            let listener = take_listener(&mut found, index).map_err(|error| {
                let message = format!("the socket {name:?} of the service manager: {error}");
                Failure::new(Exit::Configuration, message)
                    .hint("the socket unit needs ListenStream=, and Accept=no")
            })?;
            match name {
                METRICS => inherited.metrics.push(listener),
                _ => inherited.locks.push(listener),
            }
        }
        Ok(inherited)
    }
}

fn take_listener(found: &mut ListenFd, index: usize) -> io::Result<InheritedListener> {
    let absent = || io::Error::from(io::ErrorKind::NotFound);
    // What is no Unix socket stays there for the next try.
    let listener = match found.take_unix_listener(index) {
        Ok(listener) => InheritedListener::Unix(listener.ok_or_else(absent)?),
        Err(_) => InheritedListener::Tcp(found.take_tcp_listener(index)?.ok_or_else(absent)?),
    };
    let socket = match &listener {
        InheritedListener::Tcp(listener) => listener.as_fd(),
        InheritedListener::Unix(listener) => listener.as_fd(),
    };
    match socket_acceptconn(socket)? {
        true => Ok(listener),
        false => Err(io::Error::other("it does not listen")),
    }
}
