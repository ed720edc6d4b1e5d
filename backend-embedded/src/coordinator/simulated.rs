//! A coordinator in a simulation: the steps of the committer and of the expiry are driven by tasks of
//! the current process, and a commit takes as long as the simulation says.

use std::time::Duration;

use lock_core::background;
use lock_core::surroundings::Surroundings;

use super::committer::Work;
use super::expiry::Next;
use super::*;
use crate::store::disk::Disk;

impl Coordinator {
    /// Opens the coordinator of the store on a disk. `commit_time` draws for how long each commit is
    /// under way.
    ///
    /// # Errors
    /// Those of [`Coordinator::open`] that a store can have.
    ///
    /// # Panics
    /// Outside of a simulated process.
    pub fn simulate(
        disk: &Disk,
        limits: Limits,
        commit_time: impl FnMut() -> Duration + Send + 'static,
    ) -> Result<Coordinator, Error> {
        let min_revision = to_clock_revision(Surroundings::current().wall_clock());
        let (coordinator, committer) =
            Coordinator::restore(disk.medium(), limits, min_revision, None)?;
        let background = background::handle().expect("a simulated process");
        let expiry = Expiry::new(Arc::clone(coordinator.shared()));
        background.spawn(commit(committer, disk.clone(), commit_time));
        background.spawn(expire(expiry));
        Ok(coordinator)
    }
}

async fn commit(
    mut committer: Committer,
    disk: Disk,
    commit_time: impl FnMut() -> Duration + Send,
) {
    let result = serve(&mut committer, &disk, commit_time).await;
    committer.finish_run(result);
}

async fn serve(
    committer: &mut Committer,
    disk: &Disk,
    mut commit_time: impl FnMut() -> Duration + Send,
) -> Result<(), Error> {
    let shared = Arc::clone(&committer.shared);
    committer.maintain()?;
    loop {
        let work = committer.next_work(&mut shared.state());
        match work {
            Work::Commit(mut pending) => {
                disk.begin_commit();
                let recorded = committer.record(&mut pending);
                // A crash in this time finds any part of it on the disk, and nobody has an answer.
                tokio::time::sleep(commit_time()).await;
                disk.end_commit();
                committer.conclude(pending, recorded)?;
            }
            Work::Maintain => {}
            Work::Wait(None) => shared.work.task.notified().await,
            Work::Wait(Some(timeout)) => {
                let _ = tokio::time::timeout(timeout, shared.work.task.notified()).await;
            }
            Work::End => return Ok(()),
        }
        committer.maintain()?;
    }
}

async fn expire(mut expiry: Expiry) {
    let shared = Arc::clone(&expiry.shared);
    loop {
        let next = expiry.step(&shared, shared.state()).1;
        match next {
            Next::Wait(None) => shared.granted.task.notified().await,
            Next::Wait(Some(timeout)) => {
                let _ = tokio::time::timeout(timeout, shared.granted.task.notified()).await;
            }
            Next::End => break,
        }
    }
    expiry.finish_run();
}
