//! Checks that different names are different locks.

use lock_core::{ErrorKind, LockName, Locks, Mode, Release};

use crate::fixture::Skip;
use crate::test_bed::TestBed;

pub async fn names_that_begin_alike_are_different_locks(bed: TestBed) {
    let locks = bed.process();
    let mut guards = vec![];
    for name in ["a", "a/b", "a/b/c", "ab", "a%2Fb", "a/read", "a/write"] {
        let lock = locks.mutex(name).expect("a valid name");
        let guard = lock.try_acquire().await.expect("an answer");
        guards.push(guard.unwrap_or_else(|| panic!("{name} is free, and a try found it held")));
    }
}

pub async fn odd_names_work(bed: TestBed) {
    let longest = [
        &*"x".repeat(255),
        &*"y".repeat(255),
        &*"z".repeat(255),
        &*"ü".repeat(127),
    ]
    .join("/");
    for name in [
        " ",
        "%",
        "zookeeper",
        "...",
        "a b\\c*?[]",
        "日本語/ключ",
        "\u{ffff}\u{feff}",
        "_c_-lock-",
        &longest,
    ] {
        let guard = bed.mutex(name).acquire().await;
        let guard = guard.unwrap_or_else(|error| panic!("{name:?}: {error}"));
        let other = bed.mutex(name).try_acquire().await.expect("an answer");
        assert!(other.is_none(), "{name:?} was granted twice");
        let queue = bed.queue(name).await;
        assert_eq!((queue.name.as_str(), queue.entries.len()), (name, 1));
        drop(guard);
    }
}

pub async fn raw_and_native_names_are_different_locks(bed: TestBed) -> Result<(), Skip> {
    let (path, same_text) = (bed.raw("/raw/a")?, bed.raw("raw/a")?);
    let locks = bed.process();
    let native = LockName::new("raw/a").expect("a valid name");
    let mut names = vec![native, path];
    // Where raw names are paths, as on ZooKeeper, none has the text of a native one.
    let mutex = locks.mutex(&same_text).expect("a valid name");
    match mutex.try_acquire().await {
        Err(error) if error.kind() == ErrorKind::InvalidName => {}
        tried => {
            let guard = tried.expect("an answer").expect("the lock is free");
            assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            names.push(same_text);
        }
    }
    hold_together(&locks, &names).await;
    Ok(())
}

/// Checks that these locks can be held at the same time, each with a queue of its own.
async fn hold_together(locks: &Locks, names: &[LockName]) {
    let mut guards = vec![];
    for name in names {
        let lock = locks.mutex(name).expect("a valid name");
        let guard = lock.try_acquire().await.expect("an answer");
        let guard = guard.unwrap_or_else(|| panic!("{name:?} is free, and a try found it held"));
        guards.push(guard);
    }
    for name in names {
        let lock = locks.mutex(name).expect("a valid name");
        let other = lock.try_acquire().await.expect("an answer");
        assert!(other.is_none(), "{name:?} was granted twice");
        let queue = locks.queue(name).await.expect("an answer");
        assert_eq!(queue.entries.len(), 1, "the queue of {name:?}: {queue:?}");
    }
}

/// A lock whose name lies below another neither holds that lock nor stands in its queue.
pub async fn nested_names_are_handed_over_apart(bed: TestBed) {
    let mut queues = vec![];
    // The locks below are passed on while the locks above are held, and the other way round.
    for name in ["a/b", "a", "a/b/c"] {
        let (_, holder) = bed.holder(name).await;
        let waiter = bed.waiter(name, Mode::Exclusive).await;
        queues.push((holder, waiter));
    }
    while !queues.is_empty() {
        let (holder, waiter) = queues.remove(0);
        assert_eq!(
            holder.release().await.expect("an answer"),
            Release::Released
        );
        assert_eq!(
            waiter.turn().await.release().await.expect("an answer"),
            Release::Released
        );
        assert!(
            queues.iter().all(|(_, waiter)| waiter.waits()),
            "a waiter was granted its lock while another held it, by a release of a lock above or below"
        );
    }
}
