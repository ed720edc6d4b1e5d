//! The bare requests of the embedded coordinator: a put and a delete.

use async_trait::async_trait;
use turnlock::Error;
use turnlock::embedded::machine::op::{Delete, KeyRange, Put};
use turnlock::embedded::{Coordinator, EmbeddedBackend};

use super::{Baseline, Place, Raw};

#[async_trait]
impl Baseline for EmbeddedBackend {
    async fn raw(&self, place: Place) -> Result<Box<dyn Raw>, Error> {
        let coordinator = self.coordinator().clone();
        Ok(Box::new(Bare { coordinator, place }))
    }
}

struct Bare {
    coordinator: Coordinator,
    place: Place,
}

#[async_trait]
impl Raw for Bare {
    async fn pair(&mut self) -> Result<(), Error> {
        let key = self.place.key.to_vec();
        let put = Put {
            key: key.clone().into(),
            value: Some(Default::default()),
            lease: Some(self.place.session.0),
            prev_kv: false,
        };
        let delete = Delete {
            keys: KeyRange::One(key.into()),
            prev_kv: false,
        };
        self.coordinator.put(put).await.map_err(to_lock_error)?;
        self.coordinator
            .delete(delete)
            .await
            .map_err(to_lock_error)?;
        Ok(())
    }
}

fn to_lock_error(error: turnlock::embedded::Error) -> Error {
    Error::new(
        turnlock::ErrorKind::Internal,
        "a bare request was not carried out",
    )
    .with_source(error)
}
