//! Checks that different names are different locks.

use lock_core::{Mode, Release};

use crate::fixture::Skip;
use crate::test_bed::TestBed;

pub async fn names_that_begin_alike_are_different_locks(bed: TestBed) {
    let locks = bed.process();
    let mut guards = vec![];
    for name in ["a", "a/b", "a/b/c", "ab", "a%2Fb", "a/read", "a/write"] {
        let lock = locks.mutex(name).expect("a valid name");
        let guard = lock.try_acquire().await.expect("an answer");
        guards.push(guard.unwrap_or_else(|| panic!("{name} is not free")));
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
        assert!(other.is_none(), "{name:?}");
        let queue = bed.queue(name).await;
        assert_eq!((queue.name.as_str(), queue.entries.len()), (name, 1));
        drop(guard);
    }
}

pub async fn raw_and_native_names_are_different_locks(bed: TestBed) -> Result<(), Skip> {
    let raw = bed.raw("/raw/a")?;
    let locks = bed.process();
    let mut guards = vec![];
    for lock in [locks.mutex(&raw), locks.mutex("raw/a")] {
        let lock = lock.expect("a valid name");
        let guard = lock.try_acquire().await.expect("an answer");
        guards.push(guard.expect("the lock is free"));
    }
    let lock = locks.mutex(&raw).expect("a valid name");
    assert!(lock.try_acquire().await.expect("an answer").is_none());
    let queue = locks.queue(&raw).await.expect("an answer");
    assert_eq!(queue.entries.len(), 1);
    Ok(())
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
        assert!(queues.iter().all(|(_, waiter)| waiter.waits()));
    }
}
