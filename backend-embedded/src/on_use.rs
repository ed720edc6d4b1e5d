//! A coordinator in a folder that is opened when it is first needed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{
    Backend, DataKey, EntryId, Error, ErrorKind, LockName, Queue, Raised, Removed, Session,
    TokenOffset, background,
};
use tokio::sync::OnceCell;

use crate::backend::EmbeddedBackend;
use crate::config::{Config, Limits};
use crate::coordinator::Coordinator;
use crate::error::to_open_error;

/// Returns the backend that a URL names: `embedded:///DIR` is a durable coordinator in the folder
/// DIR, `embedded:memory` is a new one in memory. Does no I/O: the first request opens the folder,
/// and each later request tries again if that failed.
///
/// [`EmbeddedBackend::open`] opens the folder at once.
///
/// ```
/// let backend = backend_embedded::from_url("embedded:memory")?;
/// let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
/// # Ok::<(), lock_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Configuration`] if the URL is malformed. The first request fails with the same kind
/// if the folder cannot be opened.
pub fn from_url(url: &str) -> Result<Arc<dyn Backend>, Error> {
    Ok(match Location::parse(url)? {
        Location::Memory => {
            EmbeddedBackend::new(Coordinator::in_memory(Limits::default()).map_err(to_open_error)?)
        }
        Location::Folder(config) => Arc::new(OpenOnUse {
            config,
            opened: Arc::default(),
        }),
    })
}

/// The location of the data that a URL names.
pub(crate) enum Location {
    Memory,
    Folder(Config),
}

impl Location {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        match url.strip_prefix("embedded:") {
            Some("memory") => Ok(Location::Memory),
            Some(rest) if rest.starts_with("///") => {
                Ok(Location::Folder(Config::new(&rest["//".len()..])))
            }
            Some(_) | None => Err(Error::new(
                ErrorKind::Configuration,
                format!(
                    "the backend URL {url:?} is not valid: give embedded:///DIR, with the whole \
                     path of the folder, or embedded:memory"
                ),
            )),
        }
    }
}

#[derive(Debug)]
struct OpenOnUse {
    config: Config,
    opened: Arc<OnceCell<Arc<EmbeddedBackend>>>,
}

impl OpenOnUse {
    /// Returns the backend on the folder, and opens the folder unless it is open.
    ///
    /// # Cancel safety
    /// If the future is dropped, the opening continues: a second one beside it would find the
    /// folder in use.
    async fn backend(&self) -> Result<Arc<EmbeddedBackend>, Error> {
        if let Some(backend) = self.opened.get() {
            return Ok(backend.clone());
        }
        let (opened, config) = (self.opened.clone(), self.config.clone());
        background::finish(async move {
            let open = || EmbeddedBackend::open_folder(config);
            opened.get_or_try_init(open).await.cloned()
        })
        .await
    }
}

#[async_trait]
impl Backend for OpenOnUse {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        self.backend().await?.open_session(ttl).await
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        self.backend().await?.queue(name).await
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        self.backend().await?.locks(prefix, after, limit).await
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        self.backend().await?.get(key).await
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        self.backend().await?.evict(name, entry).await
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        self.backend().await?.raise_token_offset(offset).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use lock_core::{Locks, Options};

    use super::*;

    fn url(folder: &std::path::Path) -> String {
        format!("embedded://{}", folder.display())
    }

    #[tokio::test]
    async fn the_folder_is_opened_once_by_the_first_requests() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("locks");
        let backend = from_url(&url(&data)).expect("valid");
        assert!(!data.exists(), "opened before it is needed");
        let key = DataKey::new("k").expect("valid");
        // A request that is dropped while it opens the folder does not get in the others' way.
        assert!(backend.get(&key).now_or_never().is_none());
        let (one, other) = tokio::join!(backend.get(&key), backend.get(&key));
        assert_eq!((one.expect("open"), other.expect("open")), (None, None));
        let locks = Locks::new(backend, Options::default()).expect("valid");
        let guard = locks.mutex("a").expect("valid").acquire().await;
        drop(guard.expect("free"));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_opened_is_tried_again_by_the_next_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("locks");
        std::fs::write(&data, "in the way").expect("written");
        let backend = from_url(&url(&data)).expect("valid");
        let key = DataKey::new("k").expect("valid");
        let error = backend.get(&key).await.expect_err("a file is in the way");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        std::fs::remove_file(&data).expect("removed");
        assert_eq!(backend.get(&key).await.expect("open"), None);
    }
}
