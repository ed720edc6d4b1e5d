//! Files that are changed by the holders of real locks.

use std::time::Duration;

use backend_embedded::{Coordinator, EmbeddedBackend, Limits};
use futures_executor::block_on;
use lock_core::{Locks, Options, Release};
use lock_fence::{Error, ErrorKind, FencedFile, FencingToken, FileLocks, read};

fn locks(coordinator: &Coordinator) -> Locks {
    let options = Options::default().with_ttl(Duration::from_secs(1));
    Locks::new(EmbeddedBackend::new(coordinator.clone()), options).expect("valid options")
}

fn coordinator() -> Coordinator {
    Coordinator::in_memory(Limits::default()).expect("a coordinator in memory")
}

#[test]
fn holders_take_turns_at_a_file_on_any_executor() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("count");
    let coordinator = coordinator();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let count = locks(&coordinator).file(&path).expect("a name");
            scope.spawn(move || {
                block_on(async {
                    for _ in 0..10 {
                        let guard = count.acquire().await.expect("our turn");
                        let one_more = |old: &[u8]| {
                            let text = std::str::from_utf8(old).expect("text");
                            let number: u64 = text.parse().unwrap_or(0);
                            Ok::<_, Error>((number + 1).to_string().into_bytes())
                        };
                        guard.edit(one_more).await.expect("admitted");
                        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
                    }
                })
            });
        }
    });
    assert_eq!(read(&path).expect("readable"), b"40");
}

#[test]
fn a_guard_that_is_lost_writes_nothing_and_its_token_is_stale() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("log");
    let coordinator = coordinator();
    let (ours, theirs) = (locks(&coordinator), locks(&coordinator));
    block_on(async {
        let guard = ours
            .file(&path)
            .expect("a name")
            .acquire()
            .await
            .expect("free");
        guard.append("ours\n").await.expect("admitted");
        ours.close().await.expect("closed");
        guard.lock().lost().await;
        let error = guard.append("late\n").await.expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::Lost);

        let next = theirs
            .file(&path)
            .expect("a name")
            .acquire()
            .await
            .expect("free");
        next.append("theirs\n").await.expect("admitted");
        // A holder that does not ask its guard is refused by the file.
        let late = FencedFile::new(&path, FencingToken::of(guard.lock()));
        assert!(late.append(b"late\n").expect_err("stale").is_stale());
        let _ = next.release().await;
    });
    assert_eq!(read(&path).expect("readable"), b"ours\ntheirs\n");
}
