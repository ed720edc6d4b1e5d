//! What the suite needs of a backend under test.

use std::sync::Arc;

use async_trait::async_trait;
use lock_core::{Backend, EntryId, SessionId};

/// A way to run a backend on its server.
pub trait Fixture: Send + Sync {
    /// Its name: the first part of the names of its cases.
    fn name(&self) -> &'static str;

    /// Starts it, empty, for one case. A server of its own, as long as the deployment lives.
    ///
    /// # Panics
    /// If the server is not installed, with the command that installs it.
    fn start(&self) -> Box<dyn Deployment>;
}

/// A coordinator that runs for one case. Dropped, it ends.
#[async_trait]
pub trait Deployment: Send + Sync {
    /// A client of its own, with connections of its own: another process, as far as the coordinator
    /// can tell.
    fn backend(&self) -> Arc<dyn Backend>;

    /// Ends a session on the server, as its expiry does.
    async fn end_session(&self, id: SessionId);

    /// Removes an entry on the server, as an administrator does.
    async fn remove(&self, entry: &EntryId);

    /// The sessions that live on the server.
    async fn sessions(&self) -> Vec<SessionId>;
}
