//! Reads and changes a value under a hold, and records the requests and their answers.

use std::time::Duration;

use fastrand::Rng;
use lock_core::guard_mode::GuardMode;
use lock_core::{Effect, Error, Guard};
use tokio::time::timeout;

use crate::history::journal::Journal;
use crate::history::{DataRequest, Event, OpId};

/// The longest time after which a task that is tired of a request drops it.
const IMPATIENCE: Duration = Duration::from_millis(20);

/// The value that the holders of a lock keep in the coordinator.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// The hold.
    pub op: OpId,
    /// The key of the value.
    pub key: &'a str,
    /// The journal of the contender.
    pub journal: &'a Journal,
}

impl Data<'_> {
    /// Makes a request that is drawn at random: without a writer, a read. The number tells it from
    /// the other requests under the hold.
    pub async fn request<M: GuardMode>(
        self,
        rng: &mut Rng,
        number: u32,
        guard: &Guard<M>,
        writer: Option<&Guard>,
    ) {
        let (op, key) = (self.op, self.key);
        let request = match rng.u8(0..100) {
            0..45 if writer.is_some() => DataRequest::Put(format!("{op}.{number}")),
            45..60 if writer.is_some() => DataRequest::Delete,
            _ => DataRequest::Get,
        };
        self.journal.write(Event::Data {
            op,
            key: key.to_owned(),
            request: request.clone(),
        });
        let made = async {
            match (request, writer) {
                (DataRequest::Put(value), Some(writer)) => {
                    writer.put(key, value).await.map(|()| None)
                }
                (DataRequest::Delete, Some(writer)) => writer.delete(key).await.map(|()| None),
                _ => guard.get(key).await,
            }
        };
        let is_tired = rng.u8(0..100) < 10;
        if !is_tired {
            self.answer(made.await);
        } else if let Ok(answer) = timeout(IMPATIENCE.mul_f64(rng.f64()), made).await {
            self.answer(answer);
        }
    }

    fn answer(self, answer: Result<Option<Vec<u8>>, Error>) {
        let op = self.op;
        self.journal.write(match answer {
            Ok(value) => Event::DataDone {
                op,
                value: value.map(|value| String::from_utf8_lossy(&value).into_owned()),
            },
            Err(error) => Event::DataFailed {
                op,
                in_doubt: error.effect() != Effect::None,
                why: format!("{:?}: {error}", error.kind()),
            },
        });
    }
}
