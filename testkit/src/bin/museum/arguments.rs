//! The command line.

use clap::Parser;

use crate::exhibit::Exhibit;

const HELP: &str = "\
Examples:
  museum                          all exhibits; writes testkit/MUSEUM.md
  museum lock-core                those that are put into one crate
  museum --simulation 14-         one exhibit; writes its row of testkit/SIMULATED.md
  museum --simulation --resume    those that have no row there yet

Exit status:
  0      each bug was noticed; the simulation may miss those that name a reason
  1      a bug went unnoticed, or a test or a run fails without any bug
  2      usage
";

#[derive(Debug, Parser)]
#[command(name = "museum", after_help = HELP, max_term_width = 100)]
#[command(about = "Put known bugs of locks back into this code, and see that they are noticed")]
pub struct Arguments {
    /// Only the exhibits whose names contain this text, or that are put into this crate
    #[arg(value_name = "TEXT", default_value = "")]
    filter: String,
    /// Search for the bugs with tools/simulate, instead of running their tests
    #[arg(long)]
    pub simulation: bool,
    /// Go on where an interrupted search ended
    #[arg(long, requires = "simulation")]
    pub resume: bool,
}

impl Arguments {
    /// Returns whether an exhibit is to be tried.
    pub fn includes(&self, exhibit: &Exhibit) -> bool {
        exhibit.name.contains(&self.filter) || exhibit.mutates == self.filter
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }
}
