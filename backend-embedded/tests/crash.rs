//! Kills a process that is its own coordinator while it holds a lock: the next process that opens
//! its folder need not wait for the time to live.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use backend_embedded::{Coordinator, EmbeddedBackend};
use lock_core::{Locks, Options};

/// The folder of the process to be killed.
const DATA: &str = "TURNLOCK_CRASH_DATA";

async fn locks(data: &Path) -> (Locks, Coordinator) {
    let url = format!("embedded://{}", data.display());
    let backend = EmbeddedBackend::open(&url).await.expect("opened");
    let options = Options::default().with_ttl(Duration::from_secs(600));
    let coordinator = backend.coordinator().clone();
    (Locks::new(backend, options).expect("locks"), coordinator)
}

/// Runs as the process to be killed. It is not a test by itself.
#[tokio::test]
#[ignore = "run by the test that kills it"]
async fn holder() {
    let Some(data) = std::env::var_os(DATA) else {
        return;
    };
    let (locks, _coordinator) = locks(Path::new(&data)).await;
    let guard = locks.mutex("a").expect("a name").acquire().await;
    println!("\nholds {}", guard.expect("acquired").token());
    // Ends with the test, also if the test itself is killed.
    let _ = std::io::stdin().read(&mut [0]);
}

#[tokio::test]
async fn the_next_process_gets_the_lock_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut last = 0;
    for _ in 0..2 {
        let mut holder = Command::new(std::env::current_exe().expect("this program"))
            .args(["holder", "--exact", "--ignored", "--nocapture"])
            .env(DATA, &data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(holder.stdout.take().expect("piped"));
        let mut output = output.lines().map_while(Result::ok);
        let token = output.find_map(|line| line.strip_prefix("holds ")?.parse::<u64>().ok());
        let token = token.expect("it holds the lock");
        holder.kill().expect("killed");
        holder.wait().expect("ended");
        assert!(token > last);

        let (locks, coordinator) = locks(&data).await;
        let mutex = locks.mutex("a").expect("a name");
        let guard = mutex.try_acquire().await.expect("asked");
        let guard = guard.expect("nobody holds it");
        assert!(guard.token().0 > token, "tokens rise");
        last = guard.token().0;
        let _ = guard.release().await;
        locks.close().await.expect("closed");
        coordinator.close().expect("the folder is free");
    }
}
