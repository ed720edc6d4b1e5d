//! Watches entries, and what stands behind them.

use std::sync::atomic::Ordering;

use lock_core::session::{Behind, Watcher};
use lock_core::{EntryId, Error, Ticket};

use super::EtcdSession;
use crate::layout;
use crate::watch::{Target, Watch, Watched};

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
        let revision = watch.wait_for_change().await?;
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
            Watched::Changed(revision) => {
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
            .watch(Target::Key(entry.key.clone()), created)
            .await?;
        // A watch that began before the entry was made reports all that happens to the entry. A
        // later watch does not report a removal before it began, so the entry is read once.
        if let Watched::Since(since, _) = watched
            && since >= created
        {
            let present = |consistency| layout::check_exists(entry, consistency);
            let answer = self.read(since, present).await?;
            if !answer.succeeded() {
                return layout::revision(&answer).map(Watched::Changed);
            }
        }
        Ok(watched)
    }

    /// Reads whether somebody stands behind our entry, and watches the queue if nobody does.
    pub(super) async fn look_behind(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
    ) -> Result<Behind, Error> {
        let layout = self.protocol.layout();
        let mut after = layout::create_revision(entry);
        loop {
            // The watch is set before the read, so nothing comes between the two.
            let watched = self.client.watches.watch(layout.queue(ticket), after);
            let watched = watched.await?;
            let answer = self.txn(layout.look_behind(ticket, entry)).await?;
            if !answer.succeeded() {
                self.check_lease().await?;
                return Ok(Behind::Gone);
            }
            if layout::reads(&answer).any(|read| !read.kvs.is_empty()) {
                return Ok(Behind::Somebody);
            }
            match watched {
                Watched::Since(_, mut watch) => {
                    return Ok(Behind::Nobody(Box::pin(async move {
                        watch.wait_for_change().await.map(drop)
                    })));
                }
                // Another watch on the queue, which is shared, has seen somebody who is gone again.
                Watched::Changed(revision) => {
                    after = revision.max(layout::revision(&answer)?);
                }
            }
        }
    }
}
