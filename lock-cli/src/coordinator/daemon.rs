//! What a coordinator that was started in the background does not take over from whoever started
//! it: it serves everybody's locks, long after that one has gone.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::process::{
    Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit, umask,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::child::this_program;

/// All that it keeps of the environment: never what may be a secret.
const KEPT: [&str; 9] = [
    "HOME",
    "LANG",
    "PATH",
    "RUST_BACKTRACE",
    "TURNLOCK_HOME",
    "TZ",
    "XDG_STATE_HOME",
    "LOGNAME",
    "USER",
];
/// What begins with this is kept, too.
const KEPT_PREFIX: &[u8] = b"LC_";
/// The limits of which the soft one is raised to the hard one. Not that of core files: whoever wants
/// none shall find none.
const RAISED: [Resource; 8] = [
    Resource::As,
    Resource::Cpu,
    Resource::Data,
    Resource::Fsize,
    Resource::Memlock,
    Resource::Nofile,
    Resource::Nproc,
    Resource::Rss,
];
/// The stack of a thread is no larger. An unlimited one would change the layout of our memory.
const STACK: u64 = 8 * 1024 * 1024;
/// With fewer descriptors, clients are turned away before there are a thousand.
const DESCRIPTORS: u64 = 1024;
/// With less, the store cannot grow to its own limit.
const MEMORY: u64 = 4 << 30;
/// The highest number of a signal. Some cannot be caught, nor ignored.
const LAST_SIGNAL: i32 = 64;

/// Starts this program over without what was inherited: descriptors, environment, signal mask and
/// ignored signals, umask, nice value, limits. The session is ours by now. Returns only if that fails.
pub fn start_over() -> io::Error {
    // A lock or a pipe of a script must not live as long as we do.
    close_fds::set_fds_cloexec(3, &[]);
    raise_limits();
    umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    // Refused to a plain user whose caller was made nice; said in the log.
    let _ = setpriority_process(None, 0);
    // The kernel resets a signal that is caught to its default when a program is executed, and leaves
    // one that is ignored.
    for number in 1..=LAST_SIGNAL {
        let _ = signal(SignalKind::from_raw(number));
    }
    if let Err(error) = SigSet::empty().thread_set_mask() {
        return error.into();
    }
    let again = program().map(|mut program| {
        program
            .args(std::env::args_os().skip(1))
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_kept(name)))
            .exec()
    });
    again.unwrap_or_else(|error| error)
}

/// This program, to be executed again.
pub fn program() -> io::Result<Command> {
    let path = this_program()?;
    let mut command = Command::new(&path);
    // Shown to people, unless it is all by which the next one finds itself.
    if path.starts_with("/proc") {
        command.arg0("turnlock");
    }
    Ok(command)
}

/// Raises the limit of descriptors as far as it goes: each client takes one.
pub fn raise_descriptors() {
    raise(Resource::Nofile);
}

/// Raises the soft limit to the hard one.
fn raise(resource: Resource) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Only a limit that has become lower meanwhile is refused, and then the old one stays.
    let _ = setrlimit(resource, raised);
}

fn raise_limits() {
    RAISED.into_iter().for_each(raise);
    let stack = getrlimit(Resource::Stack);
    if stack.current.is_some_and(|current| current < STACK) {
        let current = Some(stack.maximum.map_or(STACK, |hard| hard.min(STACK)));
        let _ = setrlimit(Resource::Stack, Rlimit { current, ..stack });
    }
}

/// What is still low, in words for the log: each is a surprise that waits.
pub fn shortages() -> Vec<String> {
    let mut found = Vec::new();
    let limit = |resource| getrlimit(resource).current;
    if let Some(most) = limit(Resource::Nofile).filter(|most| *most < DESCRIPTORS) {
        found.push(format!(
            "at most {most} descriptors may be open (ulimit -n), so about {} clients can be served at once",
            most.saturating_sub(16)
        ));
    }
    if let Some(seconds) = limit(Resource::Cpu) {
        found.push(format!(
            "the kernel ends this process after {seconds} s of processor time (ulimit -t)"
        ));
    }
    for (resource, what, option) in [
        (Resource::As, "the address space", "-v"),
        (Resource::Data, "the data segment", "-d"),
        (Resource::Fsize, "the size of a file", "-f"),
    ] {
        if let Some(bytes) = limit(resource).filter(|bytes| *bytes < MEMORY) {
            found.push(format!(
                "{what} is limited to {bytes} bytes (ulimit {option})"
            ));
        }
    }
    found
}

/// The nice value, if it could not be taken back to what it is for everybody.
pub fn niceness() -> Option<i32> {
    getpriority_process(None).ok().filter(|nice| *nice > 0)
}

fn is_kept(name: &OsString) -> bool {
    let bytes = name.as_encoded_bytes();
    KEPT.iter().any(|kept| kept.as_bytes() == bytes) || bytes.starts_with(KEPT_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        for (name, kept) in [
            ("HOME", true),
            ("LC_ALL", true),
            ("TURNLOCK_ETCD_PASSWORD", false),
            ("TURNLOCK_BACKEND", false),
            ("HOMEBREW_TOKEN", false),
            ("LD_PRELOAD", false),
        ] {
            assert_eq!(is_kept(&OsString::from(name)), kept, "{name}");
        }
    }
}
