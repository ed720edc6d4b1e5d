//! What others can see.

use lock_core::Mode;

use crate::bench::Bench;

pub async fn queues_tell_who_stands_there(bench: Bench) {
    let locks = bench.process();
    let guard = locks
        .rwlock("a")
        .expect("a valid name")
        .read()
        .await
        .expect("the lock is free");
    let queue = bench.queue("a").await;
    assert_eq!((queue.entries.len(), queue.holders()), (1, 1));
    let entry = &queue.entries[0];
    assert_eq!(
        (entry.token, entry.mode, entry.session),
        (guard.token(), Mode::Shared, locks.session_id())
    );
    let metadata = entry.metadata.as_ref().expect("ours");
    assert_eq!(
        (metadata.pid, metadata.owner.as_str()),
        (std::process::id(), "suite")
    );
    assert_eq!(metadata.note.as_deref(), Some("a case"));
    assert!(metadata.since_unix_ms > 0 && !metadata.host.is_empty());
}

pub async fn pages_follow_each_other(bench: Bench) {
    let locks = bench.process();
    let names = ["b", "a", "a/b", "a/b/c", "ab", "a%2Fb", "c"];
    let mut guards = vec![];
    for name in names {
        guards.push(
            locks
                .mutex(name)
                .expect("a valid name")
                .acquire()
                .await
                .expect("the lock is free"),
        );
        guards.push(
            locks
                .rwlock(format!("{name}-2"))
                .expect("a valid name")
                .read()
                .await
                .expect("the lock is free"),
        );
        guards.push(
            locks
                .rwlock(format!("{name}-2"))
                .expect("a valid name")
                .read()
                .await
                .expect("readers share"),
        );
    }
    for (prefix, page, expected) in [
        ("", 1, 14),
        ("", 3, 14),
        ("", 100, 14),
        ("a", 2, 10),
        ("a/", 1, 4),
        ("nobody", 5, 0),
    ] {
        let mut found = vec![];
        let mut after = None;
        loop {
            let queues = locks
                .list(prefix, after.as_ref(), page)
                .await
                .expect("an answer");
            assert!(queues.len() <= page);
            for queue in &queues {
                let entries = if queue.name.as_str().ends_with("-2") {
                    2
                } else {
                    1
                };
                assert_eq!(
                    (queue.entries.len(), queue.holders()),
                    (entries, entries),
                    "{}",
                    queue.name
                );
                assert!(queue.name.as_str().starts_with(prefix));
                found.push(queue.name.to_string());
            }
            match queues.last() {
                Some(last) => after = Some(last.name.clone()),
                None => break,
            }
        }
        let listed = found.len();
        found.sort();
        found.dedup();
        assert_eq!(
            (listed, found.len()),
            (expected, expected),
            "{prefix:?} in pages of {page}: {found:?}"
        );
    }
}
