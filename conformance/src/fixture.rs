//! The traits that a backend under test implements: clients, and hooks that do harm.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{Backend, EntryId, SessionId};

use crate::link::Link;

/// A way to run a backend on its server.
pub trait Fixture: Send + Sync {
    /// Returns the name of the fixture, which is the first part of the names of its cases.
    fn name(&self) -> &'static str;

    /// Starts an empty coordinator for one case: a server of its own, or at least a namespace of
    /// its own, until the deployment is dropped. It is called outside of any executor, and may
    /// block.
    ///
    /// # Panics
    /// If the server is not installed. The message has the command that installs it.
    fn start(&self) -> Box<dyn Deployment>;
}

/// A coordinator, or a namespace of one, for a single case. A drop ends it.
///
/// A hook that this deployment lacks returns a [`Skip`]. The cases that need the hook are then
/// skipped, with the reason.
pub trait Deployment: Send + Sync {
    /// Returns a new client with connections of its own. For the coordinator it is another process.
    fn backend(&self) -> Arc<dyn Backend>;

    /// Returns the shortest time to live that sessions can have here. Cases wait until such
    /// sessions expire.
    fn shortest_ttl(&self) -> Duration;

    /// Returns `Ok` if the case has the whole store to itself, and not only a namespace. It may
    /// then use raw names, raise the token offset, which is never lowered again, and leave a session
    /// to its time to live.
    ///
    /// # Errors
    /// A [`Skip`] if others use the store too.
    fn whole_store(&self) -> Result<(), Skip>;

    /// Returns an administrator, who can do to the store what no user of locks does.
    ///
    /// # Errors
    /// A [`Skip`] if there is none.
    fn administrator(&self) -> Result<&dyn Administrator, Skip>;

    /// Returns a new client, as [`backend`](Deployment::backend) does, behind a network of its own
    /// that can fail.
    ///
    /// # Errors
    /// A [`Skip`] if clients do not reach the coordinator over TCP.
    fn link(&self) -> Result<Link, Skip>;

    /// Returns the processes that serve this deployment.
    ///
    /// # Errors
    /// A [`Skip`] if the suite may not stop them.
    fn members(&self) -> Result<&dyn Members, Skip>;
}

/// The actions of an administrator, by other means than the backend.
#[async_trait]
pub trait Administrator: Send + Sync {
    /// Ends a session on the server, as if it had expired.
    async fn end_session(&self, id: SessionId);

    /// Removes an entry on the server.
    async fn remove(&self, entry: &EntryId);

    /// Returns the live sessions on the server.
    async fn sessions(&self) -> Vec<SessionId>;
}

/// The processes that serve a deployment, numbered from 0.
#[async_trait]
pub trait Members: Send + Sync {
    /// Returns the number of processes.
    fn count(&self) -> usize;

    /// Returns whether this member says that it is the leader.
    async fn leads(&self, member: usize) -> bool;

    /// Pauses the member with SIGSTOP. No client is notified.
    async fn pause(&self, member: usize);

    /// Resumes the member with SIGCONT.
    async fn resume(&self, member: usize);

    /// Kills the member with SIGKILL.
    async fn kill(&self, member: usize);

    /// Starts a member that was killed, on its old data. Does not wait until it serves.
    async fn start(&self, member: usize);

    /// Returns whether the member serves clients.
    async fn serves(&self, member: usize) -> bool;
}

/// The reason why a case does not run on a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip(String);

impl Skip {
    /// Returns a skip with this reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Skip(reason.into())
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
