//! Opening a session in such a way that none is left behind when its caller goes away.

use std::future::Future;
use std::sync::Arc;

use lock_core::{Error, ErrorKind, Session, background};
use tokio::sync::oneshot;

/// Runs the opening of a session to its end on the background thread. Closes the session again if
/// the caller of this function has gone away by then, so that it does not live on without a user
/// for its time to live.
///
/// # Errors
/// Those of the opening, and of [`background::handle`]; [`ErrorKind::Internal`] if the opening
/// panics.
///
/// # Cancel safety
/// No session is left behind.
pub async fn open_in_background<S>(
    opening: impl Future<Output = Result<Arc<S>, Error>> + Send + 'static,
) -> Result<Arc<dyn Session>, Error>
where
    S: Session + 'static,
{
    let (sender, receiver) = oneshot::channel();
    background::handle()?.spawn(async move {
        if let Err(Ok(unwanted)) = sender.send(opening.await)
            && let Err(error) = unwanted.close().await
        {
            tracing::debug!(%error, "a session that nobody waits for ends by its time to live");
        }
    });
    let session = receiver.await.unwrap_or_else(|_| {
        let text = "opening a session ended abnormally: please report this";
        Err(Error::new(ErrorKind::Internal, text))
    })?;
    Ok(session)
}
