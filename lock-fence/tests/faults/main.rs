//! What is left of a change whose process dies at any system call of it, whose machine loses power, or
//! whose disk fails.

mod crash;
mod disk;
mod helper;
mod power;
mod scene;
mod syscalls;
mod trouble;

use libtest_mimic::Arguments;

fn main() -> std::process::ExitCode {
    if let Some(ended) = helper::main() {
        return ended;
    }
    let mut trials = crash::trials();
    trials.extend(power::trials());
    trials.extend(trouble::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
