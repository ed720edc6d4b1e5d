//! The terminal: taken over, drawn on, and given back in every case.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

use super::model::Model;
use super::view;
use crate::exit::{Exit, Failure};

/// A terminal that is drawn on. Dropping it restores the terminal; a panic does so, too.
pub struct Screen {
    terminal: DefaultTerminal,
    is_open: bool,
}

impl Screen {
    pub fn open() -> Result<Self, Failure> {
        Ok(Screen {
            // Restores the terminal in a panic.
            terminal: ratatui::try_init().map_err(to_failure)?,
            is_open: true,
        })
    }

    /// Draws a picture, in the size that the terminal has now.
    pub fn draw(&mut self, model: &mut Model) -> Result<(), Failure> {
        let drawn = self.terminal.draw(|frame| view::draw(frame, model));
        drawn.map(drop).map_err(to_failure)
    }

    /// Restores the terminal.
    pub fn close(mut self) -> Result<(), Failure> {
        self.is_open = false;
        ratatui::try_restore().map_err(to_failure)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // In a panic it has been restored before the message: a second time would move the cursor back
        // over it.
        if self.is_open && !std::thread::panicking() {
            // The failure that ends the command is the one to report.
            let _ = ratatui::try_restore();
        }
    }
}

/// Starts to read keys. The thread waits in a read until this process ends.
pub fn read_keys() -> Result<mpsc::Receiver<Event>, Failure> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            while let Ok(event) = event::read() {
                if sender.blocking_send(event).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| Failure::from_system("cannot start a thread", &error))?;
    Ok(keys)
}

fn to_failure(error: io::Error) -> Failure {
    Failure::new(Exit::File, format!("cannot draw on the terminal: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, Stdio};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    /// The end of a process on another terminal: a test starts it.
    #[test]
    #[ignore = "panics on the terminal that it is started on"]
    fn panics_while_it_draws() {
        let _screen = Screen::open().unwrap_or_else(|_| panic!("no terminal"));
        panic!("a fault of ours");
    }

    #[test]
    fn a_panic_restores_the_terminal() {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&outside)
            .and_then(|()| unlockpt(&outside))
            .expect("ours");
        let name = ptsname(&outside, Vec::new()).expect("it has a name");
        let name = name.to_str().expect("text");
        let inside = File::options().read(true).write(true).open(name);
        let inside = inside.expect("ours");
        let end = || Stdio::from(inside.try_clone().expect("a descriptor"));
        let before = tcgetattr(&inside).expect("a terminal").local_modes;
        assert!(before.contains(LocalModes::ICANON | LocalModes::ECHO));

        let test = "commands::top::screen::tests::panics_while_it_draws";
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("it starts");
        let drawn = std::thread::spawn(move || {
            let mut bytes = vec![];
            // Ends with an error when nobody has the terminal open any more.
            let _ = File::from(outside).read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let status = child.wait().expect("a child");
        let after = tcgetattr(&inside).expect("a terminal").local_modes;
        drop(inside);
        let drawn = drawn.join().expect("no panic");

        assert!(!status.success());
        assert_eq!(after, before, "keys are lines again");
        let (_, drawn) = drawn.split_once("\u{1b}[?1049h").expect("it has begun");
        let (_, said) = drawn.split_once("\u{1b}[?1049l").expect("it has left");
        assert!(said.contains("a fault of ours"), "it says why: {drawn:?}");
        assert!(
            !said.contains("\u{1b}[?1049l"),
            "it has left once: {said:?}"
        );
    }
}
