//! Readers and writers.

use lock_core::{Mode, Release};

use crate::bench::{Bench, soon};

pub async fn readers_share_and_a_waiting_writer_stops_new_readers(bench: Bench) {
    let one = bench.rwlock("a").read().await.expect("the lock is free");
    let two = bench.rwlock("a").read().await.expect("readers share");
    assert_eq!(two.mode(), Mode::Shared);
    let lock = bench.rwlock("a");
    let writer = tokio::spawn(async move { lock.write().await });
    bench.depth("a", 3).await;
    assert!(
        bench
            .rwlock("a")
            .try_read()
            .await
            .expect("an answer")
            .is_none(),
        "the writer came first"
    );
    assert!(
        bench
            .mutex("a")
            .try_acquire()
            .await
            .expect("an answer")
            .is_none()
    );
    bench.depth("a", 3).await;
    let lock = bench.rwlock("a");
    let late = tokio::spawn(async move { lock.read().await });
    bench.depth("a", 4).await;
    assert_eq!(one.release().await, Release::Released);
    assert!(!writer.is_finished());
    assert_eq!(two.release().await, Release::Released);
    let writer = soon("the writer's turn", writer)
        .await
        .expect("no panic")
        .expect("granted");
    assert!(!late.is_finished());
    assert_eq!(writer.release().await, Release::Released);
    let late = soon("the late reader's turn", late)
        .await
        .expect("no panic")
        .expect("granted");
    assert_eq!(late.release().await, Release::Released);
}

pub async fn a_batch_of_readers_starts_together(bench: Bench) {
    let writer = bench.rwlock("a").write().await.expect("the lock is free");
    let mut readers = vec![];
    for i in 0..5 {
        let lock = bench.rwlock("a");
        readers.push(tokio::spawn(async move { lock.read().await }));
        bench.depth("a", i + 2).await;
    }
    assert_eq!(writer.release().await, Release::Released);
    let mut guards = vec![];
    for reader in readers {
        guards.push(
            soon("all readers hold at once", reader)
                .await
                .expect("no panic")
                .expect("granted"),
        );
    }
    assert_eq!(bench.queue("a").await.holders(), 5);
}
