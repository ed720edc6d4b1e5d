//! Manages the processes of the contenders, and the faults that hit them.

use std::fs::File;
use std::io;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::CONTENDER;
use super::contender::Orders;
use super::network::Links;
use crate::history::Event;
use crate::history::journal::Journal;

/// A contender over all its lives. It is killed when dropped.
pub struct Contender {
    pub links: Links,
    orders: Orders,
    process: Option<Child>,
}

impl Contender {
    /// Starts the contender's first life.
    pub fn start(orders: Orders, links: Links) -> io::Result<Self> {
        let mut contender = Contender {
            links,
            orders,
            process: None,
        };
        contender.live()?;
        Ok(contender)
    }

    fn live(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let process = Command::new("/proc/self/exe")
            .arg(CONTENDER)
            .arg(serde_json::to_string(&self.orders)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.process = Some(process);
        Ok(())
    }

    fn log(&self) -> std::path::PathBuf {
        let name = format!("{}.log", self.orders.contender);
        self.orders.folder.join(name)
    }

    /// Sends SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            kill_process(Pid::from_child(process), signal)
                .expect("a child that was not waited for");
        }
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self, journal: &Journal) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            journal.write(Event::Died {
                contender: self.orders.contender,
                life: self.orders.life,
            });
        }
    }

    /// Starts the contender's next life.
    pub fn restart(&mut self) -> io::Result<()> {
        self.orders.life += 1;
        self.orders.seed += 1;
        self.live()
    }

    /// Returns whether the contender has ended by itself.
    ///
    /// # Errors
    /// The contender's output, if it failed.
    pub fn has_ended(&mut self) -> Result<bool, String> {
        let Some(process) = &mut self.process else {
            return Ok(false);
        };
        match process.try_wait() {
            Ok(None) => Ok(false),
            Ok(Some(status)) if status.success() => Ok(true),
            other => {
                let said = std::fs::read_to_string(self.log()).unwrap_or_default();
                Err(format!(
                    "contender {} failed ({other:?}): {said}",
                    self.orders.contender
                ))
            }
        }
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
