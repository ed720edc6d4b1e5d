//! What ends a coordinator: signals, and the lack of sessions.

use std::future::Future;
use std::time::Duration;

use backend_embedded::Coordinator;
use backend_embedded::server::BoundServer;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// The signals that are caught.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    Terminate,
    Interrupt,
    Hangup,
}

impl Caught {
    /// Returns the name of the signal.
    pub fn name(self) -> &'static str {
        match self {
            Caught::Terminate => "SIGTERM",
            Caught::Interrupt => "SIGINT",
            Caught::Hangup => "SIGHUP",
        }
    }
}

impl Signals {
    /// Catches the signals from now on.
    pub fn catch(with_hangup: bool) -> Result<Self, Failure> {
        let caught = |kind| signal(kind).map_err(to_internal_failure);
        Ok(Signals {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            hangup: match with_hangup {
                true => Some(caught(SignalKind::hangup())?),
                false => None,
            },
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Caught {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Caught::Terminate,
            _ = self.interrupt.recv() => Caught::Interrupt,
            _ = hung_up => Caught::Hangup,
        }
    }
}

/// Waits until there has been neither a session nor a new connection for this long.
pub fn wait_until_idle(
    coordinator: &Coordinator,
    server: &BoundServer,
    limit: Option<Duration>,
) -> impl Future<Output = ()> + use<> {
    let mut leases = coordinator.live_leases();
    let mut connections = server.connections();
    async move {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let quiet = async {
                // An idle connection does not keep it alive; a new one starts the time anew.
                connections.mark_unchanged();
                if leases.wait_for(|n| *n == 0).await.is_err() {
                    return std::future::pending().await;
                }
                tokio::select! {
                    () = tokio::time::sleep(limit) => true,
                    _ = leases.wait_for(|n| *n > 0) => false,
                    _ = connections.changed() => false,
                }
            };
            if quiet.await {
                return;
            }
        }
    }
}

pub fn to_internal_failure(error: std::io::Error) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}
