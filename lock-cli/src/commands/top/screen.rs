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
        if self.is_open {
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
