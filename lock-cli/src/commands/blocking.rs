//! Runs blocking work on files, which a signal may interrupt.

use crate::child::Signals;
use crate::exit::{Exit, Failure};

/// Runs blocking work on a thread of its own, so that signals are noticed meanwhile. Returns the
/// exit status as the inner error if a signal arrived that ends this process. The work is then left
/// behind: a change of a file is made as a whole or not at all.
pub async fn run_interruptibly<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Result<T, Exit>, Failure> {
    let (sender, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("file".to_owned())
        .spawn(move || sender.send(work()))
        .map_err(|error| Failure::from_system("cannot start a thread", &error))?;
    tokio::select! {
        biased;
        done = result => done.map(Ok).map_err(|_| {
            Failure::new(Exit::Internal, "the change of the file was not brought to its end")
        }),
        signal = signals.wait_for_deadly() => Ok(Err(Exit::Signal(signal))),
    }
}
