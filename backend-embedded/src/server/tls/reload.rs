//! The certificate in use, and its replacement while the server runs.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_rustls::rustls::ServerConfig;

use super::files::{Configured, Texts, TlsError, TlsFiles};

/// How often the files are read again.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// A server's TLS: its certificate, and the authorities of its clients. Clones share it.
///
/// The server reads the files again every ten seconds, and when [`reload`](Self::reload) is called.
/// New connections get what the files contain by then. Open connections stay as they are. If the
/// files cannot be used, because they are half replaced for example, the former contents stay in
/// use, and the log says so.
///
/// ```no_run
/// use backend_embedded::server::{Security, Server, Tls, TlsFiles};
/// use backend_embedded::{Coordinator, Limits};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let files = TlsFiles::new("/etc/locks/server.pem", "/etc/locks/server.key")
///     .with_client_ca("/etc/locks/clients-ca.pem");
/// let tls = Tls::load(files).await?;
/// let security = Security::default().with_tls(tls.clone());
/// let coordinator = Coordinator::in_memory(Limits::default())?;
/// let server = Server::bind_with(coordinator, vec!["0.0.0.0:2379".parse()?], security)?;
/// tls.reload().await?;
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    current: RwLock<Configured>,
    /// What was read last. It is held while the files are read, so that no earlier contents replace
    /// later ones.
    last_read: Mutex<LastRead>,
}

#[derive(Debug)]
struct LastRead {
    /// The contents in use.
    texts: Arc<Texts>,
    /// Why the files could not be used when they were read last.
    error: Option<String>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used, and the remedy.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let reading = lock_core::background::block(move || {
            let texts = files.read()?;
            let current = files.configure(&texts)?;
            Ok((files, texts, current))
        });
        let (files, texts, current) = reading.await.map_err(TlsError::Unreadable)??;
        let last_read = LastRead {
            texts: Arc::new(texts),
            error: None,
        };
        Ok(Tls(Arc::new(Shared {
            files,
            current: RwLock::new(current),
            last_read: Mutex::new(last_read),
        })))
    }

    /// Reads the files again, and returns whether they have changed. New connections get the new
    /// contents. The log has the result too.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used, and the remedy. The former contents stay in
    /// use.
    ///
    /// # Cancel safety
    /// Cancel safe: the new contents are in use, or not yet.
    pub async fn reload(&self) -> Result<bool, TlsError> {
        let (outcome, _) = self.read_again().await;
        self.log(&outcome);
        outcome
    }

    /// Reads the files again and again, until the future is dropped.
    pub(in crate::server) async fn follow(&self) {
        self.follow_every(POLL_INTERVAL).await;
    }

    async fn follow_every(&self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            let (outcome, is_news) = self.read_again().await;
            if is_news {
                self.log(&outcome);
            }
        }
    }

    /// Returns the settings of a new connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let current = self.0.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Returns when the certificate ends, in seconds of Unix time.
    pub(in crate::server) fn not_after(&self) -> Option<i64> {
        let current = self.0.current.read();
        current.unwrap_or_else(PoisonError::into_inner).not_after
    }

    /// Returns whether each client has to prove who it is.
    pub(in crate::server) fn demands_certificates(&self) -> bool {
        self.0.files.client_ca.is_some()
    }

    /// Reads the files again. Returns whether they have changed, and whether that is other than what
    /// the last reading has found.
    async fn read_again(&self) -> (Result<bool, TlsError>, bool) {
        let mut last = self.0.last_read.lock().await;
        let (shared, former) = (Arc::clone(&self.0), Arc::clone(&last.texts));
        let reading = lock_core::background::block(move || {
            let texts = shared.files.read()?;
            if texts == *former {
                return Ok(None);
            }
            let configured = shared.files.configure(&texts)?;
            Ok(Some((texts, configured)))
        });
        let read = reading.await.map_err(TlsError::Unreadable);
        match read.and_then(|read| read) {
            Ok(read) => {
                let is_new = read.is_some();
                last.error = None;
                if let Some((texts, configured)) = read {
                    last.texts = Arc::new(texts);
                    let mut current =
                        (self.0.current.write()).unwrap_or_else(PoisonError::into_inner);
                    *current = configured;
                }
                (Ok(is_new), is_new)
            }
            Err(error) => {
                let text = error.to_string();
                let is_new = last.error.as_ref() != Some(&text);
                last.error = Some(text);
                (Err(error), is_new)
            }
        }
    }

    fn log(&self, outcome: &Result<bool, TlsError>) {
        let cert = self.0.files.cert.display();
        match outcome {
            Ok(true) => tracing::info!(%cert, "new connections get the new TLS files"),
            Ok(false) => tracing::info!(%cert, "the TLS files are as before"),
            Err(error) => tracing::error!(
                %error,
                "the new TLS files cannot be used; new connections get the former ones"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use testkit::fixtures::certs::Ca;

    #[tokio::test]
    async fn files_that_change_are_in_use_without_a_signal() {
        let ca = Ca::new("ours");
        let files = ca.issue("server", &["127.0.0.1"]);
        let tls = Tls::load(TlsFiles::new(&files.cert, &files.key)).await;
        let tls = tls.expect("valid");
        let first = tls.not_after();
        let follow = tls.clone();
        let interval = Duration::from_millis(1);
        let following = tokio::spawn(async move { follow.follow_every(interval).await });
        let next = ca.issue_expired("next", &["127.0.0.1"]);
        fs::rename(&next.key, &files.key).expect("renamed");
        // Half of it is no reason to stop, nor to forget the whole.
        let half = tls.reload().await.expect_err("of two keys");
        assert!(half.to_string().contains("is not for the key"), "{half}");
        assert_eq!(tls.not_after(), first);
        fs::rename(&next.cert, &files.cert).expect("renamed");
        while tls.not_after() == first {
            tokio::time::sleep(interval).await;
        }
        assert!(!tls.reload().await.expect("valid"), "nothing is new");
        following.abort();
    }

    #[tokio::test]
    async fn a_failure_is_news_once() {
        let ca = Ca::new("ours");
        let files = ca.issue("server", &["127.0.0.1"]);
        let tls = Tls::load(TlsFiles::new(&files.cert, &files.key)).await;
        let tls = tls.expect("valid");
        fs::remove_file(&files.cert).expect("removed");
        let (outcome, is_news) = tls.read_again().await;
        assert!(outcome.is_err() && is_news);
        let (outcome, is_news) = tls.read_again().await;
        assert!(outcome.is_err() && !is_news);
    }
}
