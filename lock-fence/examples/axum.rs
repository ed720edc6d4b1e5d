//! A counter that the requests of a server share. Each request takes the lock `counter`, and a client that
//! cannot have it is told when to come back.
//!
//! ```sh
//! cargo run -p lock-fence --features tower --example axum -- embedded:memory 127.0.0.1:8080 &
//! curl -i -X POST http://127.0.0.1:8080/
//! ```

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use backend_embedded::EmbeddedBackend;
use lock_core::{Locks, Mutex, Options};
use lock_fence::http::lock_refusal;
use tokio::net::TcpListener;

/// How long a request waits for the lock. A client that waits longer has probably left.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many requests of this server wait for locks or hold them. One more is refused at once.
const MAX_PENDING: usize = 64;

/// The error of an operation on a lock, as a response.
struct LockError(lock_core::Error);

impl From<lock_core::Error> for LockError {
    fn from(error: lock_core::Error) -> Self {
        LockError(error)
    }
}

impl IntoResponse for LockError {
    fn into_response(self) -> Response {
        lock_refusal(&self.0)
    }
}

async fn count(State(lock): State<Mutex>) -> Result<Response, LockError> {
    let Some(guard) = lock.acquire_timeout(PATIENCE).await? else {
        return Ok((StatusCode::LOCKED, "others are counting\n").into_response());
    };
    let count = guard.get("count").await?;
    let count = count.and_then(|text| String::from_utf8(text).ok()?.parse::<u64>().ok());
    let count = count.unwrap_or(0) + 1;
    guard.put("count", count.to_string()).await?;
    // The count was put while the lock was held, whatever has become of the lock since.
    let _ = guard.release().await?;
    Ok(format!("{count}\n").into_response())
}

/// Returns the service, which counts under a lock of these.
pub fn service(locks: &Locks) -> Result<Router, lock_core::Error> {
    let lock = locks.mutex("counter")?;
    Ok(Router::new().route("/", post(count)).with_state(lock))
}

#[allow(dead_code)] // The tests use the function above.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("give {what}"));
    let url = next("the URL of a backend: embedded:///DIR or embedded:memory")?;
    let address = next("HOST:PORT to listen on")?;
    let options = Options::default().with_max_pending_acquires(MAX_PENDING);
    let locks = Locks::new(EmbeddedBackend::open(&url).await?, options)?;
    let listener = TcpListener::bind(address).await?;
    Ok(axum::serve(listener, service(&locks)?).await?)
}
