//! Tells the service manager how the coordinator is: the protocol of sd_notify(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager. Without one, messages go nowhere.
#[derive(Debug)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// Opens the way that the environment names, if it names one.
    pub fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Notifier(None);
        };
        let name = name.as_encoded_bytes();
        let opened = to_address(name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // One that takes no messages must not keep the clients waiting.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match opened {
            Ok(way) => Notifier(Some(way)),
            Err(error) => {
                let name = String::from_utf8_lossy(name);
                tracing::warn!(%error, %name, "cannot reach the service manager at NOTIFY_SOCKET");
                Notifier(None)
            }
        }
    }

    /// Returns whether a service manager listens.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Says that clients can connect. A service manager shows the text.
    pub fn tell_ready(&self, text: &str) {
        self.send(&format!("READY=1\nSTATUS={}", text.replace('\n', " ")));
    }

    /// Says that files are read again. [`tell_ready`](Self::tell_ready) ends this.
    pub fn tell_reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Says that the coordinator ends, and how long that may take.
    pub fn tell_stopping(&self, limit: Duration) {
        let limit = limit.as_micros();
        self.send(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}\nSTATUS=sending the last answers"
        ));
    }

    /// Says that the coordinator works.
    pub fn tell_alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.0 else {
            return;
        };
        // A service manager that is restarted misses a message, which must end nothing here.
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "the service manager does not take a message");
        }
    }
}

/// Returns how often the service manager wants to hear that the coordinator works: twice as often as
/// it would have to.
pub fn watchdog_interval() -> Option<Duration> {
    let read = |name| env::var(name).ok();
    let is_ours = read("WATCHDOG_PID").is_none_or(|pid| pid == process::id().to_string());
    let micros: u64 = read("WATCHDOG_USEC")?.parse().ok()?;
    (is_ours && micros > 0).then(|| Duration::from_micros(micros.div_ceil(2)))
}

fn to_address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(OsStr::from_bytes(name)),
    }
}
