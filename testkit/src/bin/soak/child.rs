//! Runs a program that ends with this one.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testkit::interruption::Interruption;

const STEP: Duration = Duration::from_millis(50);

/// Runs a program, and returns how it ended and what it printed on stdout.
///
/// # Errors
/// Of kind `Interrupted` if a signal has come: the program was asked to end, and has ended.
/// Otherwise if it cannot be run.
pub fn run(command: &mut Command, interruption: &Interruption) -> io::Result<(ExitStatus, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let reader = thread::spawn(move || {
        let mut printed = String::new();
        stdout.read_to_string(&mut printed).map(|_| printed)
    });
    let status = wait(&mut child, interruption)?;
    let printed = reader.join().map_err(|_| io::ErrorKind::Other)??;
    Ok((status, printed))
}

/// Waits until the program ends. Asks it to end if a signal has come.
fn wait(child: &mut Child, interruption: &Interruption) -> io::Result<ExitStatus> {
    let flag = interruption.flag();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if flag.load(Ordering::Relaxed) {
            kill_process(Pid::from_child(child), Signal::TERM)?;
            child.wait()?;
            return Err(io::ErrorKind::Interrupted.into());
        }
        thread::sleep(STEP);
    }
}
