//! Waits at most ten seconds for a lock, and stops working when the lock is lost.
use std::time::Duration;

use turnlock::{Error, Release};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Error> {
    let locks = turnlock::connect("embedded:memory")?;
    let ledger = locks.mutex("accounts/ledger")?;
    let Some(guard) = ledger.acquire_timeout(Duration::from_secs(10)).await? else {
        println!("another holder kept the lock all the time");
        return Ok(());
    };
    tokio::select! {
        reason = guard.lost() => println!("the work stopped: {reason}"),
        () = tokio::time::sleep(Duration::from_millis(10)) => {
            println!("worked with token {}", guard.token());
        }
    }
    assert_eq!(guard.release().await?, Release::Released);
    Ok(())
}
