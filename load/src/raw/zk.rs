//! The bare requests of ZooKeeper: an ephemeral sequential node, such as a lock makes, is created
//! and deleted by a session of its own.

use std::time::Duration;

use async_trait::async_trait;
use turnlock::zk::ZkBackend;
use turnlock::{Error, ErrorKind};
use zookeeper_client::{Acls, Client, CreateMode, Error as ZkError};

use super::{Baseline, Place, Raw, to_lock_error};

/// The timeout of the session. The client pings, so that the session outlasts any measurement.
const SESSION: Duration = Duration::from_secs(30);

/// The beginning of the node's name, as long as those of locks' entries.
const NAME: &str = "_c_00000000-0000-4000-8000-000000000000-raw-";
/// The value of the node, as long as the metadata of locks' entries.
const DATA: [u8; 90] = [b' '; 90];

#[async_trait]
impl Baseline for ZkBackend {
    async fn raw(&self, place: Place) -> Result<Box<dyn Raw>, Error> {
        let path = str::from_utf8(&place.key).ok();
        let Some((directory, _)) = path.and_then(|path| path.rsplit_once('/')) else {
            return Err(Error::new(ErrorKind::Internal, "an entry without a path"));
        };
        let client = self.client(SESSION).await?;
        settle(&client, directory).await.map_err(to_lock_error)?;
        Ok(Box::new(Bare {
            prefix: format!("{directory}/{NAME}"),
            client,
            _place: place,
        }))
    }
}

/// Keeps a directory for as long as this client's session lasts. The servers remove a directory
/// that they find empty, as this one is after each pair.
async fn settle(client: &Client, directory: &str) -> Result<(), ZkError> {
    let path = format!("{directory}/kept-");
    let node = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    loop {
        match client.create(&path, &[], &node).await {
            Err(ZkError::NoNode) => client.mkdir(directory, &container).await?,
            made => return made.map(drop),
        }
    }
}

struct Bare {
    prefix: String,
    client: Client,
    _place: Place,
}

#[async_trait]
impl Raw for Bare {
    async fn pair(&mut self) -> Result<(), Error> {
        let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        let created = self.client.create(&self.prefix, &DATA, &options).await;
        let (_, sequence) = created.map_err(to_lock_error)?;
        let path = format!("{}{sequence}", self.prefix);
        self.client.delete(&path, None).await.map_err(to_lock_error)
    }
}
