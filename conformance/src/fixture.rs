//! What the suite needs of a backend under test: clients, and hooks to do harm with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{Backend, EntryId, SessionId};

use crate::link::Link;

/// A way to run a backend on its server.
pub trait Fixture: Send + Sync {
    /// Its name: the first part of the names of its cases.
    fn name(&self) -> &'static str;

    /// Starts it, empty, for one case. A server of its own, or at least a namespace of its own, as
    /// long as the deployment lives. Called outside of any executor; may block.
    ///
    /// # Panics
    /// If the server is not installed, with the command that installs it.
    fn start(&self) -> Box<dyn Deployment>;
}

/// A coordinator, or a namespace of one, that is there for one case. Dropped, it ends.
///
/// What is answered with a [`Skip`] cannot be done here; the cases that need it are skipped and say
/// so.
pub trait Deployment: Send + Sync {
    /// A client of its own, with connections of its own: another process, as far as the coordinator
    /// can tell.
    fn backend(&self) -> Arc<dyn Backend>;

    /// The shortest time to live that is of use here: cases wait for the end of such sessions.
    fn shortest_ttl(&self) -> Duration;

    /// Whether all of the store is the case's own, and not only one namespace: then it may use raw
    /// names, and raise the token offset, which stays.
    ///
    /// # Errors
    /// A [`Skip`] if others use the store too.
    fn whole_store(&self) -> Result<(), Skip>;

    /// Somebody who can do to the store what no user of locks does.
    ///
    /// # Errors
    /// A [`Skip`] if there is nobody.
    fn administrator(&self) -> Result<&dyn Administrator, Skip>;

    /// A client as [`backend`](Deployment::backend) makes one, behind a network of its own that can
    /// fail.
    ///
    /// # Errors
    /// A [`Skip`] if clients reach the coordinator by other means than TCP.
    fn link(&self) -> Result<Link, Skip>;

    /// The processes that serve it.
    ///
    /// # Errors
    /// A [`Skip`] if they are not the suite's to stop.
    fn members(&self) -> Result<&dyn Members, Skip>;
}

/// What an administrator does, by other means than the backend.
#[async_trait]
pub trait Administrator: Send + Sync {
    /// Ends a session on the server, as its expiry does.
    async fn end_session(&self, id: SessionId);

    /// Removes an entry on the server.
    async fn remove(&self, entry: &EntryId);

    /// The sessions that live on the server.
    async fn sessions(&self) -> Vec<SessionId>;
}

/// The processes that serve a deployment, numbered from 0.
#[async_trait]
pub trait Members: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Whether this one decides for all, by its own word.
    async fn leads(&self, member: usize) -> bool;

    /// SIGSTOP: it stands still, and nobody is told.
    async fn pause(&self, member: usize);

    /// SIGCONT.
    async fn resume(&self, member: usize);

    /// kill -9.
    async fn kill(&self, member: usize);

    /// Starts one that was killed, on its old data, without waiting for it.
    async fn start(&self, member: usize);

    /// Whether it serves clients.
    async fn serves(&self, member: usize) -> bool;
}

/// Why a case does not run on a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip(String);

impl Skip {
    /// For this reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Skip(reason.into())
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
