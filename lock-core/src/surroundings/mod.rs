//! What a process has of its surroundings: its clocks, its id, the name of its machine, and chance.
//!
//! Nothing else in Turnlock's libraries asks the system for these (each crate's `clippy.toml` keeps it
//! so). So a simulation can put many processes into one, each with surroundings of its own, and
//! replace all of them in this one place.

#[cfg(simulation)]
pub mod simulated;

use std::hash::{BuildHasher, Hasher, RandomState};
#[cfg(simulation)]
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The surroundings of one process. Outside of a simulation there is only one process, and this takes
/// no space.
#[derive(Debug, Clone)]
pub struct Surroundings {
    #[cfg(simulation)]
    process: Option<Arc<dyn simulated::Process>>,
}

impl Surroundings {
    /// Returns the surroundings of the process that the caller is a part of.
    pub fn current() -> Self {
        Surroundings {
            #[cfg(simulation)]
            process: simulated::current(),
        }
    }

    /// Returns the nanoseconds since the machine was started, including those in which it was
    /// suspended: CLOCK_BOOTTIME on Linux, and CLOCK_MONOTONIC elsewhere.
    pub(crate) fn boot_nanos(&self) -> u64 {
        #[cfg(simulation)]
        if let Some(process) = &self.process {
            return process.boot_nanos();
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = rustix::time::ClockId::Monotonic;
        let t = rustix::time::clock_gettime(id);
        // The kernel never returns a negative boot time.
        (t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64
    }

    /// Returns the time for which the machine has run since some instant in the past. It stands still
    /// while the machine is suspended.
    #[expect(clippy::disallowed_methods, reason = "the one reader of this clock")]
    pub(crate) fn running_time(&self) -> Duration {
        #[cfg(simulation)]
        if let Some(process) = &self.process {
            return process.running_time();
        }
        static EPOCH: OnceLock<Instant> = OnceLock::new();
        EPOCH.get_or_init(Instant::now).elapsed()
    }

    /// Returns the time by the wall clock, which people may set.
    #[expect(clippy::disallowed_methods, reason = "the one reader of this clock")]
    pub fn wall_clock(&self) -> SystemTime {
        #[cfg(simulation)]
        if let Some(process) = &self.process {
            return process.wall_clock();
        }
        SystemTime::now()
    }

    /// Returns the id of the process.
    #[expect(clippy::disallowed_methods, reason = "the one reader of the id")]
    pub(crate) fn process_id(&self) -> u32 {
        #[cfg(simulation)]
        if let Some(process) = &self.process {
            return process.id();
        }
        std::process::id()
    }

    /// Returns the name of the machine.
    pub(crate) fn host_name(&self) -> String {
        #[cfg(simulation)]
        if let Some(process) = &self.process {
            return format!("host-{}", process.id());
        }
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().into_owned()
    }

    /// Returns a seed that does not repeat after a restart of the process or of the machine.
    #[expect(clippy::disallowed_methods, reason = "the one source of chance")]
    pub fn random_seed(&self) -> u64 {
        #[cfg(simulation)]
        if self.process.is_some() {
            return fastrand::u64(..);
        }
        RandomState::new().build_hasher().finish()
    }
}
