//! Requests that look at many keys or have a long answer, apart from the thread that serves all
//! clients: renewals and the requests of honest clients do not wait behind them.

use std::sync::Arc;

use lock_core::background;
use tokio::sync::Semaphore;

use super::pending::Class;
use super::requests::Applied;
use super::shared::Clock;
use super::{Coordinator, Operation};
use crate::error::Error;
use crate::machine::op::{Delete, Deleted, Range, RangeResult, Txn, TxnResult};
use crate::machine::{Changes, Machine};

/// The turn of heavy requests: one at a time. More at once would hold the state more often, and
/// would have more answers in memory.
#[derive(Debug, Clone)]
pub(crate) struct HeavyTurn(Arc<Semaphore>);

impl Default for HeavyTurn {
    fn default() -> Self {
        HeavyTurn(Arc::new(Semaphore::new(1)))
    }
}

impl HeavyTurn {
    /// Runs this on another thread, when its turn has come. The turn lasts until it has ended, also
    /// if the caller does not wait for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let work = move || {
            let _turn = turn;
            work()
        };
        // A simulation has no other threads.
        if cfg!(simulation) {
            return Ok(work());
        }
        let done = background::block(work).await;
        done.map_err(|_| Error::Overloaded)
    }
}

impl Coordinator {
    /// Runs this on another thread, after the heavy requests before it.
    pub(crate) async fn run_heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.heavy.run(work).await
    }
}

/// A request, and how it is applied.
struct Serving<R, T> {
    class: Class,
    request: R,
    operation: fn(&R) -> Operation<'_>,
    if_light: fn(&mut Machine, &R, &mut Changes) -> Result<Option<T>, Error>,
    wholly: fn(&mut Machine, &R, &mut Changes) -> Result<T, Error>,
}

/// The requests of a server's clients.
impl Coordinator {
    /// Runs a transaction as [`txn`](Self::txn) does.
    pub(crate) async fn serve_txn(&self, txn: Txn) -> Result<Applied<TxnResult>, Error> {
        self.serve(Serving {
            class: Class::of(&txn),
            request: txn,
            operation: |txn| Operation::Txn(txn),
            if_light: Machine::txn_if_light,
            wholly: Machine::txn,
        })
        .await
    }

    /// Reads a range as [`range`](Self::range) does.
    pub(crate) async fn serve_range(&self, range: Range) -> Result<Applied<RangeResult>, Error> {
        self.serve(Serving {
            class: Class::Read,
            request: range,
            operation: |range| Operation::Range(range),
            if_light: |machine, range, _| machine.range_if_light(range),
            wholly: |machine, range, _| machine.range(range),
        })
        .await
    }

    /// Deletes a range as [`delete`](Self::delete) does.
    pub(crate) async fn serve_delete(&self, delete: Delete) -> Result<Applied<Deleted>, Error> {
        self.serve(Serving {
            class: Class::Release,
            request: delete,
            operation: |delete| Operation::Delete(delete),
            if_light: Machine::delete_if_light,
            wholly: Machine::delete,
        })
        .await
    }

    /// Applies a request here if it is light, and on another thread otherwise.
    async fn serve<R, T>(&self, serving: Serving<R, T>) -> Result<Applied<T>, Error>
    where
        R: Send + 'static,
        T: Send + 'static,
    {
        let light = |machine: &mut Machine, _: &Clock, changes: &mut Changes| {
            self.authorize((serving.operation)(&serving.request), machine)?;
            (serving.if_light)(machine, &serving.request, changes)
        };
        match self.submit(serving.class, light).await?.transpose() {
            Some(applied) => Ok(applied),
            None => self.serve_heavy(serving).await,
        }
    }

    async fn serve_heavy<R, T>(&self, mut serving: Serving<R, T>) -> Result<Applied<T>, Error>
    where
        R: Send + 'static,
        T: Send + 'static,
    {
        let class = serving.class;
        let mut again = class.may_be_repeated();
        loop {
            let coordinator = self.clone();
            let applying = move || {
                let applied = coordinator
                    .shared()
                    .apply(class, &mut |machine, _, changes| {
                        coordinator.authorize((serving.operation)(&serving.request), machine)?;
                        (serving.wholly)(machine, &serving.request, changes)
                    });
                (applied, serving)
            };
            let (applied, returned) = self.inner.heavy.run(applying).await?;
            serving = returned;
            if let Some(answer) = self.settle(applied?, &mut again).await {
                return answer;
            }
        }
    }
}
