//! Removes the state that a coordinator in the background inherited from the command that started
//! it. The coordinator serves the locks of all commands, long after that one has ended.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{
    Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit, umask,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::child::this_program;

/// The variables that are kept. None of them may be a secret.
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
/// The prefix of other variables that are kept.
const KEPT_PREFIX: &[u8] = b"LC_";
/// The resources whose soft limit is raised to the hard one. Core files are not among them: a user
/// who wants none shall find none.
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
/// The value to which the soft limit of the stack is raised. An unlimited stack would change the
/// memory layout.
const STACK: u64 = 8 * 1024 * 1024;
/// The number of descriptors without which a thousand clients cannot be served at once.
const DESCRIPTORS: u64 = 1024;
/// The memory without which the store cannot grow to its own limit.
const MEMORY: u64 = 4 << 30;
/// The highest number of a signal. Some of them can be neither caught nor ignored.
const LAST_SIGNAL: i32 = 64;

/// Executes this program again without the inherited descriptors, environment, ignored signals,
/// umask, nice value and limits. The process leads its own session by now, and blocks no signal.
/// Returns only if the execution fails.
pub fn start_over() -> io::Error {
    // A descriptor of a script must not stay open for as long as this process lives.
    close_fds::set_fds_cloexec(3, &[]);
    raise_limits();
    umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    // A plain user with a raised nice value may not lower it. The log says so.
    let _ = setpriority_process(None, 0);
    // The kernel resets a signal that is caught to its default when a program is executed, and
    // leaves one that is ignored.
    for number in 1..=LAST_SIGNAL {
        let _ = signal(SignalKind::from_raw(number));
    }
    let again = this_command().map(|mut program| {
        program
            .args(std::env::args_os().skip(1))
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_kept(name)))
            .exec()
    });
    again.unwrap_or_else(|error| error)
}

/// Makes the command that executes this program again.
pub fn this_command() -> io::Result<Command> {
    let path = this_program()?;
    let mut command = Command::new(&path);
    // People see this name. A path is kept, because the next program finds itself by it.
    if path.starts_with("/proc") {
        command.arg0("turnlock");
    }
    Ok(command)
}

/// Raises the soft limit of descriptors to the hard one. Each client takes a descriptor.
pub fn raise_descriptors() {
    raise(Resource::Nofile);
}

/// Raises the soft limit of a resource to the hard one.
fn raise(resource: Resource) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // This fails only if the hard limit was lowered meanwhile. Then the old soft limit stays.
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

/// Returns a message for the log about each limit that is still low.
pub fn find_shortages() -> Vec<String> {
    let mut found = Vec::new();
    let limit = |resource| getrlimit(resource).current;
    if let Some(most) = limit(Resource::Nofile).filter(|most| *most < DESCRIPTORS) {
        found.push(format!(
            "at most {most} descriptors may be open (ulimit -n), so about {} clients can be \
             served at once",
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

/// Returns the nice value, if it could not be lowered to the default.
pub fn find_raised_niceness() -> Option<i32> {
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
