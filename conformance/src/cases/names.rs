//! Different names are different locks.

use lock_core::LockName;

use crate::bench::Bench;

pub async fn names_that_begin_alike_are_different_locks(bench: Bench) {
    let locks = bench.process();
    let mut guards = vec![];
    for name in ["a", "a/b", "a/b/c", "ab", "a%2Fb", "a/read", "a/write"] {
        let guard = locks
            .mutex(name)
            .expect("a valid name")
            .try_acquire()
            .await
            .expect("an answer");
        guards.push(guard.unwrap_or_else(|| panic!("{name} is not free")));
    }
}

pub async fn odd_names_work(bench: Bench) {
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
        let guard = bench
            .mutex(name)
            .acquire()
            .await
            .unwrap_or_else(|error| panic!("{name:?}: {error}"));
        assert!(
            bench
                .mutex(name)
                .try_acquire()
                .await
                .expect("an answer")
                .is_none(),
            "{name:?}"
        );
        let queue = bench.queue(name).await;
        assert_eq!((queue.name.as_str(), queue.entries.len()), (name, 1));
        drop(guard);
    }
}

pub async fn raw_and_native_names_are_different_locks(bench: Bench) {
    let raw = LockName::raw("/raw/a").expect("a valid name");
    let locks = bench.process();
    let one = locks
        .mutex(&raw)
        .expect("a valid name")
        .try_acquire()
        .await
        .expect("an answer");
    let two = locks
        .mutex("raw/a")
        .expect("a valid name")
        .try_acquire()
        .await
        .expect("an answer");
    assert!(one.is_some() && two.is_some());
    assert!(
        locks
            .mutex(&raw)
            .expect("a valid name")
            .try_acquire()
            .await
            .expect("an answer")
            .is_none()
    );
    assert_eq!(locks.queue(&raw).await.expect("an answer").entries.len(), 1);
}
