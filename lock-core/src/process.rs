//! The name of this process among all that the machine has run since it was started.
//!
//! A client sends the name along with its requests. A coordinator on the same machine compares it
//! with what the kernel knows of the connection. If the two agree, no proxy stands in between that
//! passes on the requests of others.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use crate::surroundings::Surroundings;

/// A process id, with the namespace and the boot in which it is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessName {
    /// The process id, as the process sees it itself.
    pub pid: u32,
    /// The number of its namespace of process ids.
    pub namespace: u64,
    /// The kernel's id of this boot.
    pub boot: u128,
}

impl ProcessName {
    /// Returns the name of this process, or `None` on a system without `/proc`.
    pub fn ours() -> Option<Self> {
        static PLACE: OnceLock<(u64, u128)> = OnceLock::new();
        let place = PLACE.get().copied().or_else(|| {
            let place = (namespace()?, boot()?);
            Some(*PLACE.get_or_init(|| place))
        });
        let (namespace, boot) = place?;
        Some(ProcessName {
            // Asked for each time: a forked child has another one.
            pid: Surroundings::current().process_id(),
            namespace,
            boot,
        })
    }

    /// Finds a name in a text, in the form of its [`fmt::Display`]: such as a user agent.
    pub fn find_in(text: &str) -> Option<Self> {
        let (_, name) = text.split_once(OPEN)?;
        let (name, _) = name.split_once(')')?;
        let mut words = name.split(' ');
        let found = ProcessName {
            pid: words.next()?.parse().ok()?,
            namespace: words.next()?.parse().ok()?,
            boot: u128::from_str_radix(words.next()?, 16).ok()?,
        };
        words.next().is_none().then_some(found)
    }
}

const OPEN: &str = "(process ";

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{OPEN}{} {} {:032x})",
            self.pid, self.namespace, self.boot
        )
    }
}

/// Returns the kernel's id of this boot, if it can be read.
fn boot() -> Option<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

fn namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_a_user_agent() {
        let name = ProcessName {
            pid: 12,
            namespace: 4_026_531_836,
            boot: 0x0123_4567_89ab_cdef,
        };
        let said = format!("turnlock/1.0 {name} tonic/0.14");
        assert_eq!(ProcessName::find_in(&said), Some(name));
        for other in [
            "grpc-go/1.26.0",
            "(process 1 2 3",
            "(process 1 2)",
            "(process 1 2 3 4)",
        ] {
            assert_eq!(ProcessName::find_in(other), None, "{other}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_one() {
        let ours = ProcessName::ours().expect("there is a /proc");
        assert_eq!(ours.pid, std::process::id());
        assert_eq!(ProcessName::find_in(&ours.to_string()), Some(ours));
    }
}
