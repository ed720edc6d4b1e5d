//! Where the tasks of a connection run.

use std::pin::Pin;

use hyper::rt::Executor;
use lock_core::background;

/// Runs the tasks of connections, also those of tonic and hyper, on the background thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackgroundExecutor;

impl BackgroundExecutor {
    pub(super) fn spawn(self, task: impl Future<Output = ()> + Send + 'static) {
        // Connections are made on that thread, so it runs. It is missing only in a forked child, where
        // nothing can be done with a connection.
        if let Ok(background) = background::handle() {
            background.spawn(task);
        }
    }
}

impl Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for BackgroundExecutor {
    fn execute(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.spawn(task);
    }
}
