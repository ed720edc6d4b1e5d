//! What is left of a change whose process dies at any system call of it, or whose disk fails.

mod crash;
mod helper;
mod trouble;

use libtest_mimic::Arguments;

fn main() -> std::process::ExitCode {
    if let Some(ended) = helper::main() {
        return ended;
    }
    let mut trials = crash::trials();
    trials.extend(trouble::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
