//! Checks that oversized requests are refused with their reason, and that requests within the
//! limits work.

use std::time::Duration;

use lock_core::entry::MAX_NOTE_BYTES;
use lock_core::{ErrorKind, Locks, MAX_TTL, MIN_TTL, Mode, Options, Release};

use crate::test_bed::TestBed;

pub async fn the_longest_note_is_kept_and_a_longer_one_refused(bed: TestBed) {
    // Each character has two bytes, and every one is escaped in JSON.
    let (owner, note) = (
        "\u{85}".repeat(MAX_NOTE_BYTES / 2),
        "\n".repeat(MAX_NOTE_BYTES),
    );
    let options = bed
        .options()
        .with_owner(owner.clone())
        .with_note(note.clone());
    let locks = bed.process_with(options);
    let guard = locks.mutex("a").expect("a valid name").acquire().await;
    let _guard = guard.expect("the lock is free");
    let entry = bed.queue("a").await.entries.remove(0);
    let metadata = entry.metadata.expect("ours");
    assert_eq!((metadata.owner, metadata.note), (owner, Some(note)));
    check_refused(
        &bed,
        bed.options().with_note("x".repeat(MAX_NOTE_BYTES + 1)),
        "note",
    );
}

fn check_refused(bed: &TestBed, options: Options, named: &str) {
    let error = Locks::new(bed.backend(), options).expect_err("out of bounds");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains(named), "{error}");
}

pub async fn times_to_live_out_of_bounds_are_refused(bed: TestBed) {
    let nano = Duration::from_nanos(1);
    for ttl in [Duration::ZERO, MIN_TTL - nano, MAX_TTL + nano] {
        let options = bed.options().with_ttl(ttl);
        check_refused(&bed, options, "time to live");
    }
    // A time to live below the limit of the store is raised, or refused with the reason: the store
    // may be configured to allow more.
    let brief = bed.with_ttl(MIN_TTL);
    match brief.mutex("a").acquire().await {
        Ok(guard) => assert!(guard.remaining() > Duration::ZERO),
        Err(error) => {
            let refusals = [ErrorKind::InvalidArgument, ErrorKind::Configuration];
            assert!(refusals.contains(&error.kind()), "{error}");
        }
    }
}

/// Stores have limits of their own.
pub async fn a_guard_returns_the_granted_time_to_live(bed: TestBed) {
    for asked in [MIN_TTL, bed.ttl(), MAX_TTL] {
        let locks = bed.process_with(bed.options().with_ttl(asked));
        let guard = match locks.mutex("a").expect("a valid name").acquire().await {
            Ok(guard) => guard,
            Err(error) => {
                let refusals = [ErrorKind::InvalidArgument, ErrorKind::Configuration];
                assert!(
                    asked != bed.ttl() && refusals.contains(&error.kind()),
                    "{error}"
                );
                continue;
            }
        };
        let (remaining, granted) = (guard.remaining(), guard.ttl());
        assert!(granted >= MIN_TTL, "{granted:?} of {asked:?}");
        assert!(
            !remaining.is_zero() && remaining <= granted,
            "{remaining:?} of {granted:?}"
        );
        if asked == bed.ttl() {
            assert_eq!(granted, asked, "within the bounds of every store");
        }
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
}

pub async fn bad_names_are_refused(bed: TestBed) {
    let locks = bed.process();
    let long = "x".repeat(1024 * 1024);
    let too_long = vec!["x".repeat(255); 5].join("/");
    for name in [
        "",
        ".",
        "..",
        "/",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "a/.",
        "a\0b",
        "a\nb",
        "\u{7f}",
        "\u{85}",
        &"x".repeat(256),
        &long,
        &too_long,
    ] {
        let refusal = locks.mutex(name).expect_err(name);
        assert_eq!(refusal.kind(), ErrorKind::InvalidName, "{name:?}");
        assert!(refusal.to_string().len() < 1000, "a flood");
    }
}

pub async fn a_session_holds_many_locks(bed: TestBed) {
    const LOCKS: usize = 100;
    let locks = bed.process();
    let mut guards = vec![];
    for i in 0..LOCKS {
        let lock = locks.mutex(format!("many/{i}")).expect("a valid name");
        guards.push(lock.acquire().await.expect("the lock is free"));
    }
    let other = bed.process();
    let listed = other.list("many/", None, 2 * LOCKS).await;
    assert_eq!(listed.expect("an answer").len(), LOCKS);
    locks.close().await.expect("an answer");
    let listed = other.list("many/", None, 2 * LOCKS).await;
    assert_eq!(listed.expect("an answer"), []);
}

pub async fn a_long_queue_is_listed_whole(bed: TestBed) {
    const WAITERS: usize = 100;
    let (locks, guard) = bed.holder("a").await;
    let lock = locks.mutex("a").expect("a valid name");
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    bed.depth("a", WAITERS + 1).await;
    let queue = bed.queue("a").await;
    assert_eq!(queue.holders(), 1);
    assert!(
        queue
            .entries
            .iter()
            .all(|entry| entry.mode == Mode::Exclusive)
    );
    drop(guard);
    for waiter in waiters {
        let turn = bed.join("a turn", waiter).await;
        turn.expect("its turn comes");
    }
    bed.depth("a", 0).await;
}
