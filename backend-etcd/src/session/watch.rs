//! Watches entries.

use std::sync::atomic::Ordering;

use lock_core::session::Watcher;
use lock_core::{EntryId, Error};

use super::EtcdSession;
use crate::layout;
use crate::watch::{Watch, Watched};

impl EtcdSession {
    /// Waits until the entry is gone.
    pub(super) async fn wait_until_gone(
        &self,
        entry: &EntryId,
        watcher: Watcher,
    ) -> Result<(), Error> {
        // The future takes kilobytes, which are not kept while a lock is held.
        let Some(mut watch) = Box::pin(self.begin_watch(entry, watcher)).await? else {
            return Ok(());
        };
        let revision = watch.wait_until_gone().await?;
        self.reported_revision.fetch_max(revision, Ordering::SeqCst);
        Ok(())
    }

    /// Starts to watch the entry; returns `None` if the entry is gone. Owners take turns: they are
    /// not in a hurry, and there may be very many of them at once.
    async fn begin_watch(&self, entry: &EntryId, watcher: Watcher) -> Result<Option<Watch>, Error> {
        let _turn = match watcher {
            Watcher::Owner => self.client.settling.acquire().await.ok(),
            Watcher::Waiter => None,
        };
        match Box::pin(self.try_watch(entry)).await? {
            Watched::Since(_, watch) => Ok(Some(watch)),
            Watched::Gone(revision) => {
                self.reported_revision.fetch_max(revision, Ordering::SeqCst);
                Ok(None)
            }
        }
    }

    async fn try_watch(&self, entry: &EntryId) -> Result<Watched, Error> {
        let created = layout::create_revision(entry);
        let watched = self
            .client
            .watches
            .watch(entry.key.clone(), created)
            .await?;
        // A watch that began before the entry was made reports all that happens to the entry. A
        // later watch does not report a removal before it began, so the entry is read once.
        if let Watched::Since(since, _) = watched
            && since >= created
        {
            let present = |consistency| layout::check_exists(entry, consistency);
            let answer = self.read(since, present).await?;
            if !answer.succeeded() {
                return layout::revision(&answer).map(Watched::Gone);
            }
        }
        Ok(watched)
    }
}
