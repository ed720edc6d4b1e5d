//! Changes a file that refuses a writer whose lock has passed on to another holder.
use std::error::Error;

use turnlock::Release;
use turnlock::fence::{self, FileLocks};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ledger.csv");
    let locks = turnlock::connect("embedded:memory")?;
    let ledger = locks.file(&path)?;

    let guard = ledger.acquire().await?;
    guard.append("2026-11-28,42\n").await?;
    guard
        .edit(|old| Ok::<_, Box<dyn Error + Send + Sync>>([b"date,amount\n", old].concat()))
        .await?;
    assert_eq!(guard.release().await?, Release::Released);

    assert_eq!(fence::read(&path)?, b"date,amount\n2026-11-28,42\n");
    Ok(())
}
