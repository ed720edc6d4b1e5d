//! The command line.

use std::ops::Range;
use std::time::Duration;

use clap::Parser;

use crate::setup::{Profile, Setup, Tier};

const HELP: &str = "\
Examples:
  tools/simulate --seeds 1..201
  tools/simulate --tier embedded --minutes 60
  tools/simulate --seeds 1..1001 --json | jq .faults
  tools/simulate --seeds 7..8 --trace 2>trace.txt
  tools/simulate --seeds 1..4 --twice

The runs of simulation/corpus.txt are made first, except with --trace, --twice and --until-failure.

Exit status:
  0      no run broke a rule
  1      a run broke a rule, or differed from itself: its command and its history are shown
  2      usage
";

#[derive(Debug, Clone, Parser)]
#[command(name = "tools/simulate", after_help = HELP, max_term_width = 100)]
#[command(about = "Run the locks in a simulated world, with faults that a seed draws")]
pub struct Arguments {
    /// The seeds: from A up to B, without B
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "1..21")]
    pub seeds: Range<u64>,
    /// Go on with further seeds until this time is over
    #[arg(long, value_name = "M")]
    pub minutes: Option<f64>,
    /// How much of the stack is simulated
    #[arg(long, value_enum, default_value = "grpc")]
    pub tier: Tier,
    /// How much happens
    #[arg(long, value_enum, default_value = "dense")]
    pub profile: Profile,
    /// For how long there are faults, in simulated seconds [default: 60; 600 if sparse]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// How many runs are made at once [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Print each event of the runs on stderr
    #[arg(long)]
    pub trace: bool,
    /// Make each run twice, each time in a new process, and compare all that happens
    #[arg(long)]
    pub twice: bool,
    /// Print the summary as one JSON object, and the runs that failed on stderr
    #[arg(long, conflicts_with = "twice")]
    pub json: bool,
    /// End with the first seed whose run breaks a rule
    #[arg(long)]
    pub until_failure: bool,
    /// Make the runs that are named on stdin, for another call of this program
    #[arg(long, hide = true)]
    pub worker: bool,
}

impl Arguments {
    /// Returns the run of a seed.
    pub fn setup(&self, seed: u64) -> Setup {
        Setup {
            tier: self.tier,
            profile: self.profile,
            seconds: self.seconds.unwrap_or(self.profile.seconds()),
            seed,
        }
    }

    /// Returns how long to go on, if that decides.
    pub fn limit(&self) -> Option<Duration> {
        let minutes = self.minutes?;
        Some(Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default())
    }

    pub fn jobs(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(all).max(1)
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || "not two seeds, such as 1..101".to_owned();
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let seeds = first.parse().map_err(|_| wrong())?..end.parse().map_err(|_| wrong())?;
    match seeds.is_empty() {
        true => Err("no seed: the first is not below the last".to_owned()),
        false => Ok(seeds),
    }
}
