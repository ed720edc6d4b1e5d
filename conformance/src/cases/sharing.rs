//! Checks the order of readers and writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lock_core::{AnyGuard, Mode, Release};

use crate::test_bed::{TestBed, Waiter};

const READER_BESIDE_WRITER: &str = "a reader was granted the lock while a writer held it";
const WRITER_BESIDE_READER: &str = "a writer was granted the lock while a reader held it";

pub async fn readers_share_and_a_waiting_writer_stops_new_readers(bed: TestBed) {
    let one = bed.rwlock("a").read().await.expect("the lock is free");
    let two = bed.rwlock("a").read().await.expect("readers share");
    assert_eq!(two.mode(), Mode::Shared);
    let writer = bed.waiter("a", Mode::Exclusive).await;
    let try_read = bed.rwlock("a").try_read().await;
    let refusal = try_read.expect("an answer").is_none();
    assert!(refusal, "a reader overtook a waiting writer");
    let try_write = bed.mutex("a").try_acquire().await;
    let refusal = try_write.expect("an answer").is_none();
    assert!(refusal, "a writer was granted the lock beside readers");
    bed.depth("a", 3).await;
    let late = bed.waiter("a", Mode::Shared).await;
    assert_eq!(one.release().await.expect("an answer"), Release::Released);
    assert!(writer.waits(), "{WRITER_BESIDE_READER}");
    assert_eq!(two.release().await.expect("an answer"), Release::Released);
    let writer = writer.turn().await;
    assert!(late.waits(), "{READER_BESIDE_WRITER}");
    assert_eq!(
        writer.release().await.expect("an answer"),
        Release::Released
    );
    assert_eq!(
        late.turn().await.release().await.expect("an answer"),
        Release::Released
    );
}

pub async fn a_batch_of_readers_starts_together(bed: TestBed) {
    let writer = bed.rwlock("a").write().await.expect("the lock is free");
    let mut readers = vec![];
    for _ in 0..5 {
        readers.push(bed.waiter("a", Mode::Shared).await);
    }
    assert!(readers.iter().all(Waiter::waits), "{READER_BESIDE_WRITER}");
    assert_eq!(
        writer.release().await.expect("an answer"),
        Release::Released
    );
    let mut guards = vec![];
    for reader in readers {
        guards.push(reader.turn().await);
    }
    assert_eq!(bed.queue("a").await.holders(), 5);
}

/// A writer that waited only for the nearest reader would get in beside the others.
pub async fn a_writer_waits_for_every_reader(bed: TestBed) {
    let mut readers = vec![];
    for _ in 0..3 {
        readers.push(bed.rwlock("a").read().await.expect("readers share"));
    }
    let writer = bed.waiter("a", Mode::Exclusive).await;
    while let Some(nearest) = readers.pop() {
        assert!(writer.waits(), "{WRITER_BESIDE_READER}");
        assert_eq!(
            nearest.release().await.expect("an answer"),
            Release::Released
        );
        bed.depth("a", readers.len() + 1).await;
        assert_eq!(bed.queue("a").await.holders(), readers.len().max(1));
    }
    assert_eq!(
        writer.turn().await.release().await.expect("an answer"),
        Release::Released
    );
}

pub async fn a_writer_that_leaves_lets_readers_in(bed: TestBed) {
    let first = bed.rwlock("a").read().await.expect("the lock is free");
    let writer = bed.waiter("a", Mode::Exclusive).await;
    let two = bed.waiter("a", Mode::Shared).await;
    let three = bed.waiter("a", Mode::Shared).await;
    assert!(
        two.waits() && three.waits(),
        "a reader overtook a waiting writer"
    );
    writer.leave();
    let guards = [two.turn().await, three.turn().await];
    assert_eq!(bed.queue("a").await.holders(), 3);
    drop((first, guards));
    bed.depth("a", 0).await;
}

pub async fn readers_and_writers_exclude_each_other(bed: TestBed) {
    // The number of readers inside. A writer counts as this many readers.
    const WRITER: i64 = 1000;
    let inside = Arc::new(AtomicI64::new(0));
    let tasks = (0..6).map(|i| {
        let (lock, inside) = (bed.rwlock("a"), inside.clone());
        tokio::spawn(async move {
            for turn in 0..15 {
                let writes = (i + turn) % 3 == 0;
                let guard: Result<AnyGuard, _> = match writes {
                    true => lock.write().await.map(Into::into),
                    false => lock.read().await.map(Into::into),
                };
                let guard = guard.expect("our turn comes");
                let weight = if writes { WRITER } else { 1 };
                let others = inside.fetch_add(weight, Ordering::SeqCst);
                let alone = others == 0;
                assert!(
                    alone || !writes,
                    "{WRITER_BESIDE_READER}, or another writer"
                );
                assert!(others < WRITER, "{READER_BESIDE_WRITER}");
                // The pause is long enough for others to queue up behind.
                tokio::time::sleep(Duration::from_millis(1)).await;
                inside.fetch_sub(weight, Ordering::SeqCst);
                assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        bed.join("all turns", task).await;
    }
    bed.depth("a", 0).await;
}
