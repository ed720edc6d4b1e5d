//! Waits for what a test expects, and fails the test if it does not come.

use std::time::Duration;

/// A generous limit, since the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits for a future.
///
/// # Panics
/// If it takes longer than [`SOON`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// If it takes longer than [`SOON`].
pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let polled = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, polled).await;
}
