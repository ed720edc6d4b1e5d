//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::part::Part;
use crate::parts::PARTS;

const HELP: &str = "\
Examples:
  tools/soak                            all parts, one after the other, for 140 minutes
  tools/soak grpc-dense                 one part
  tools/soak grpc chaos --minutes 60    the parts whose names begin with grpc or chaos, for an hour
  tools/soak coordinator --minutes 2    a trial, which is too short for the goal

Each call goes on where the last one stopped, until the goals are reached. The results are kept in
testkit/SOAK.json, every few minutes, and shown in testkit/SOAK.md. Calls with different parts may
run at once. A part begins anew if its entry in testkit/SOAK.json is removed.

Exit status:
  0      nothing failed, whether or not the goals are reached
  1      something failed: the command that shows it is printed, and kept with the results
  2      usage, or a part could not go on
";

#[derive(Debug, Parser)]
#[command(name = "soak", bin_name = "tools/soak", after_help = HELP, max_term_width = 100)]
#[command(
    about = "Make the long runs: simulations, chaos, a coordinator under load, and random tests"
)]
pub struct Arguments {
    /// The parts: each a name, or the beginning of some names [default: all]
    #[arg(value_name = "PART", value_parser = find_parts)]
    parts: Vec<Vec<&'static Part>>,
    /// Stop after this time
    #[arg(long, value_name = "M", default_value = "140", value_parser = parse_minutes)]
    pub minutes: Duration,
}

impl Arguments {
    /// Returns the parts in the order of their list, each once.
    pub fn parts(&self) -> Vec<&'static Part> {
        let is_wanted = |part: &&Part| {
            self.parts.is_empty() || self.parts.iter().flatten().any(|named| named == part)
        };
        PARTS.iter().filter(is_wanted).collect()
    }
}

fn find_parts(beginning: &str) -> Result<Vec<&'static Part>, String> {
    let named = PARTS.iter().filter(|part| part.name.starts_with(beginning));
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        return Err(format!("there is no such part: give {}", names.join(", ")));
    }
    Ok(named)
}

fn parse_minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().ok();
    let length = minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
    length.ok_or_else(|| "not a number of minutes, such as 90".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn named(words: &[&str]) -> Vec<&'static str> {
        let words = ["soak"].iter().chain(words);
        let arguments = Arguments::try_parse_from(words).expect("parts");
        let parts = arguments.parts();
        parts.iter().map(|part| part.name).collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn parts_are_named_by_their_beginning() {
        assert_eq!(named(&[]).len(), PARTS.len());
        assert_eq!(named(&["grpc-dense"]), ["grpc-dense"]);
        assert_eq!(
            named(&["chaos", "grpc-s", "chaos-zk"]),
            [
                "grpc-sparse",
                "grpc-storm",
                "chaos-embedded",
                "chaos-etcd",
                "chaos-zk"
            ]
        );
        assert!(Arguments::try_parse_from(["soak", "dense"]).is_err());
        assert!(Arguments::try_parse_from(["soak", "--minutes", "-1"]).is_err());
    }
}
