//! Parses the command line into the settings of a run.

use std::time::Duration;

use clap::Parser;
use testkit::chaos::{Backend, Settings};

const HELP: &str = "\
Examples:
  chaos --backend etcd --nodes 3 --seconds 900 --seed 42
  chaos --backend zk --json >report.json
  chaos                                   the embedded coordinator, for a minute

It starts servers of its own, on free ports of this machine, and stops them. etcd and ZooKeeper must
be installed: apt-get install etcd-server, apt-get install zookeeper.

Exit status:
  0      no rule is broken, or only by the servers: that is reported, and no failure
  64     usage: an option or an argument breaks a rule
  70     a rule is broken and it is Turnlock that breaks it, or the run could not go on
  74     stdout cannot be written to
  78     a server is not installed
";

#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    version,
    after_help = HELP,
    max_term_width = 100,
    args_override_self = true
)]
#[command(
    about = "Try the locks on servers and contenders that are paused, killed and cut off at random"
)]
pub struct Arguments {
    /// The servers: embedded, etcd or zk [default: embedded]
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// How many servers: 1 or 3 [default: 3; of the embedded coordinator, 1]
    #[arg(long, value_name = "N")]
    pub nodes: Option<usize>,
    /// How long faults are made: seconds, or a number with ms, s, m or h
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "60")]
    pub seconds: Duration,
    /// What the faults and the contenders' actions are drawn from [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Print the report as one JSON object on stdout, and for people on stderr
    #[arg(long)]
    pub json: bool,
    /// Print neither the seed nor, with --json, the report for people on stderr
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

impl Arguments {
    /// Returns the settings of the run.
    ///
    /// # Errors
    /// If there is no such backend, or it cannot be made of that many servers. The message names
    /// the remedy.
    pub fn to_settings(&self) -> Result<Settings, String> {
        let names: Vec<_> = Backend::ALL.iter().map(|backend| backend.name()).collect();
        let name = self.backend.as_deref().or(names.first().copied());
        let name = name.unwrap_or_default();
        let chosen = Backend::ALL.iter().find(|backend| backend.name() == name);
        let backend = *chosen.ok_or_else(|| {
            format!(
                "chaos starts servers of its own, and {name:?} is none that it knows: give \
                 --backend {}",
                names.join(" or ")
            )
        })?;
        let possible = backend.nodes();
        let nodes = self.nodes.or(possible.last().copied()).unwrap_or_default();
        if !possible.contains(&nodes) {
            let possible: Vec<_> = possible.iter().map(usize::to_string).collect();
            return Err(format!(
                "{} is not made of {nodes} servers: give --nodes {}",
                backend.name(),
                possible.join(" or ")
            ));
        }
        Ok(Settings {
            backend,
            nodes,
            length: self.seconds,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        })
    }
}

/// Parses seconds with a fraction, or a number with its unit.
fn seconds(text: &str) -> Result<Duration, String> {
    // `ms` comes before the others, because it ends with one of them.
    const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let with_unit = |(unit, seconds): &(&str, f64)| Some((text.strip_suffix(unit)?, *seconds));
    let (number, unit) = UNITS.iter().find_map(with_unit).unwrap_or((text, 1.0));
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "not a number of seconds, such as 90, or of minutes, such as 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn seconds_take_fractions_and_units_and_nothing_else() {
        for (text, millis) in [
            ("0.5", 500),
            ("500ms", 500),
            ("5s", 5_000),
            ("15m", 900_000),
        ] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "-1", "nan", "5 s", "5d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
