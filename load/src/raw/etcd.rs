//! The bare requests of etcd, and of servers with its API: a put and a delete, over the connection
//! that the sessions use.

use async_trait::async_trait;
use etcd_client::{Client, PutOptions};
use turnlock::Error;
use turnlock::etcd::EtcdBackend;

use super::{Baseline, Place, Raw, to_lock_error};

#[async_trait]
impl Baseline for EtcdBackend {
    async fn raw(&self, place: Place) -> Result<Box<dyn Raw>, Error> {
        let client = self.client().await?;
        Ok(Box::new(Bare { client, place }))
    }
}

struct Bare {
    client: Client,
    place: Place,
}

#[async_trait]
impl Raw for Bare {
    async fn pair(&mut self) -> Result<(), Error> {
        let key = &*self.place.key;
        let leased = PutOptions::new().with_lease(self.place.session.0);
        let put = self.client.put(key, "", Some(leased)).await;
        put.map_err(to_lock_error)?;
        let deleted = self.client.delete(key, None).await;
        deleted.map_err(to_lock_error)?;
        Ok(())
    }
}
