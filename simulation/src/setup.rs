//! What a run is: a few words that its command names, and what its seed draws from them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::process::RIGHT_RATE;

/// By how much the clock of a contender may differ in its rate from the server's, in millionths. The
/// deadlines allow for one in a hundred.
const DRIFT: u64 = 9_900;

/// How much of the stack is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Contenders in processes of their own reach the server over gRPC.
    Grpc,
    /// Contenders are in the process of the coordinator.
    Embedded,
    /// Contenders reach a store that does only what a backend has to.
    Core,
}

/// How much happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Many holds in a short time, and long queues.
    Dense,
    /// Still more holds: more locks, and less work under them.
    Busy,
    /// Few holds in a long time.
    Sparse,
    /// Many faults, on top of each other.
    Storm,
    /// As dense, with processes that keep their locks between their holds.
    Sticky,
}

impl Profile {
    /// Returns for how long there are faults, if the command does not say so.
    pub fn seconds(self) -> u64 {
        match self {
            Profile::Dense | Profile::Busy | Profile::Storm | Profile::Sticky => 60,
            Profile::Sparse => 600,
        }
    }

    /// Returns how many of a hundred exclusive acquires are those of a sticky lock.
    pub fn sticky(self) -> u8 {
        match self {
            Profile::Sticky => 70,
            Profile::Dense | Profile::Busy | Profile::Sparse | Profile::Storm => 0,
        }
    }

    /// Returns the time to live that the faults and their distances depend on.
    pub fn rhythm(self) -> Duration {
        match self {
            Profile::Dense | Profile::Busy => Duration::from_secs(3),
            // Those who wait behind a kept lock are to be served in time while there is no fault.
            Profile::Sticky => Duration::from_secs(8),
            Profile::Sparse => Duration::from_secs(12),
            Profile::Storm => Duration::from_secs(1),
        }
    }
}

/// A run, as a command and the corpus name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub tier: Tier,
    pub profile: Profile,
    pub seconds: u64,
    pub seed: u64,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup {
            tier,
            profile,
            seconds,
            seed,
        } = self;
        write!(f, "{} {} {seconds} {seed}", name(tier), name(profile))
    }
}

/// Returns the name of a value on the command line.
pub fn name(value: &impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl FromStr for Setup {
    type Err = String;

    /// Parses `TIER PROFILE SECONDS SEED`.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[tier, profile, seconds, seed] = words.as_slice() else {
            return Err(format!("{text:?} is not TIER PROFILE SECONDS SEED"));
        };
        let number = |word: &str| {
            let parsed = word.parse();
            parsed.map_err(|_| format!("{word:?} in {text:?} is not a number"))
        };
        Ok(Setup {
            tier: clap::ValueEnum::from_str(tier, false)?,
            profile: clap::ValueEnum::from_str(profile, false)?,
            seconds: number(seconds)?,
            seed: number(seed)?,
        })
    }
}

/// How long bytes are under way, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    shortest: u64,
    longest: u64,
}

impl Latency {
    pub fn draw(self, rng: &mut Rng) -> Duration {
        Duration::from_micros(rng.u64(self.shortest..self.longest))
    }
}

/// What the seed draws for a whole run.
#[derive(Debug, Clone)]
pub struct Cast {
    pub contenders: u32,
    /// The tasks of each contender, which share a session.
    pub tasks: u32,
    pub locks: u32,
    /// The longest pause of a task between two acquires.
    pub pause: Duration,
    /// The usual limit of the work under a lock.
    pub work: Duration,
    /// How many holds of a hundred may last longer than that.
    pub long_holds: u8,
    pub latency: Latency,
    /// How long the disk takes for a commit.
    pub commit: Latency,
    pub server_rate: u64,
}

impl Cast {
    pub fn draw(rng: &mut Rng, profile: Profile) -> Self {
        let latency = match rng.u8(0..100) {
            0..70 => (100, 2_000),
            70..90 => (5_000, 20_000),
            _ => (50_000, 300_000),
        };
        let commit = match rng.u8(0..100) {
            0..70 => (200, 3_000),
            70..90 => (3_000, 20_000),
            _ => (20_000, 200_000),
        };
        let latencies = |(shortest, longest)| Latency { shortest, longest };
        // Where each turn takes long, a long queue would only be waited for.
        let is_slow = latency.1 > 100_000 || commit.1 > 100_000;
        let (contenders, tasks) = match is_slow || profile == Profile::Sparse {
            true => (rng.u32(2..=4), rng.u32(1..=2)),
            false => (rng.u32(2..=8), rng.u32(1..=4)),
        };
        let (most_locks, pause, work, long_holds) = match profile {
            Profile::Dense | Profile::Storm | Profile::Sticky => (4, 100, 300, 3),
            // Most of the time is that of long holds, and of queues behind a contender that is gone.
            Profile::Busy => (12, 10, 20, 1),
            Profile::Sparse => (4, 10_000, 300, 3),
        };
        Cast {
            contenders,
            tasks,
            locks: rng.u32(1..=most_locks),
            pause: Duration::from_millis(pause),
            work: Duration::from_millis(work),
            long_holds,
            latency: latencies(latency),
            commit: latencies(commit),
            server_rate: RIGHT_RATE - 5_000 + rng.u64(0..=10_000),
        }
    }

    /// Returns how long it may take until the next client is told of its turn. A client that misses the
    /// event looks by itself, but 5 to 10 s after its last look.
    pub fn handoff_time(&self) -> Duration {
        // The messages and the commits of one turn.
        let exchange = 6 * self.latency.longest + 2 * self.commit.longest;
        Duration::from_secs(1) + Duration::from_micros(exchange)
    }

    /// Draws the rate of a contender's clock.
    pub fn draw_rate(&self, rng: &mut Rng) -> u64 {
        self.server_rate * (RIGHT_RATE - DRIFT + rng.u64(0..=2 * DRIFT)) / RIGHT_RATE
    }
}
