//! Checks that only the holder can change the data that it keeps in the coordinator.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use lock_core::data::MAX_VALUE_BYTES;
use lock_core::{Effect, ErrorKind, Guard, Locks, LossReason, Release, State};

use crate::fixture::Skip;
use crate::test_bed::TestBed;

async fn value(locks: &Locks, key: &str) -> Option<String> {
    let value = locks.get(key).await.expect("an answer");
    value.map(|bytes| String::from_utf8(bytes).expect("text"))
}

async fn put(guard: &Guard, key: &str, value: &str) {
    guard.put(key, value).await.expect("the lock is ours");
}

pub async fn every_client_reads_the_value_of_a_holder(bed: TestBed) {
    let others = bed.process();
    let guard = bed.mutex("a").acquire().await.expect("the lock is free");
    assert_eq!(value(&others, "k/1").await, None);
    assert_eq!(guard.get("k/1").await.expect("ours"), None);
    guard
        .delete("k/1")
        .await
        .expect("nothing to remove is fine");
    for text in ["one", "two", ""] {
        put(&guard, "k/1", text).await;
        assert_eq!(value(&others, "k/1").await.as_deref(), Some(text));
        let read = guard.get("k/1").await.expect("ours");
        assert_eq!(read.as_deref(), Some(text.as_bytes()));
    }
    assert_eq!(value(&others, "k").await, None, "another key");
    put(&guard, "k", "other").await;
    guard.delete("k/1").await.expect("ours");
    assert_eq!(value(&others, "k/1").await, None);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_eq!(
        value(&others, "k").await.as_deref(),
        Some("other"),
        "it outlives the hold"
    );
    let reader = bed.rwlock("a").read().await.expect("the lock is free");
    let read = reader.get("k").await.expect("readers read");
    assert_eq!(read.as_deref(), Some(&b"other"[..]));
}

pub async fn a_put_without_the_entry_changes_nothing(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let others = bed.process();
    let guard = bed.mutex("a").acquire().await.expect("the lock is free");
    put(&guard, "k", "mine").await;
    let entry = bed.queue("a").await.entries[0].id.clone();
    administrator.remove(&entry).await;
    // The write fails whether or not the guard knows of the loss by now.
    let error = guard.put("k", "late").await;
    let error = error.expect_err("a put without the entry was done");
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Evicted, Effect::None),
        "{error}"
    );
    assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
    let (deleted, read) = (guard.delete("k").await, guard.get("k").await);
    assert!(
        deleted.is_err() && read.is_err(),
        "an access without the entry was done: {deleted:?}, {read:?}"
    );
    assert_eq!(value(&others, "k").await.as_deref(), Some("mine"));

    let locks = bed.process();
    let lock = locks.mutex("b").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    put(&guard, "k", "again").await;
    let id = locks.session_id().expect("open");
    administrator.end_session(id).await;
    let error = guard.delete("k").await;
    let error = error.expect_err("a delete in a session that ended was done");
    assert!(
        matches!(error.kind(), ErrorKind::SessionLost(_) | ErrorKind::Evicted),
        "{error}"
    );
    bed.eventually("the guard is lost", async || {
        matches!(guard.state(), State::Lost(_))
    })
    .await;
    assert_eq!(value(&others, "k").await.as_deref(), Some("again"));
    Ok(())
}

pub async fn a_stale_put_never_follows_the_next_holders(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let others = bed.process();
    for round in 0..5 {
        let name = format!("a{round}");
        let stale = bed.mutex(&name).acquire().await.expect("free");
        let lock = bed.mutex(&name);
        let next = tokio::spawn(async move { lock.acquire().await });
        bed.depth(&name, 2).await;
        let entry = bed.queue(&name).await.entries[0].id.clone();
        // The old holder writes all the time, and learns of its loss only from its writes.
        let old = async {
            for serial in 0u64.. {
                if stale.put("k", format!("old {serial}")).await.is_err() {
                    return serial;
                }
            }
            unreachable!("it is refused at some time")
        };
        let new = async {
            administrator.remove(&entry).await;
            let next = bed.join("its turn", next).await;
            let next = next.expect("granted");
            assert!(
                next.token() > stale.token(),
                "the next holder has no higher token"
            );
            put(&next, "k", "new").await;
            next
        };
        let (_, next) = bed.soon("both end", async { tokio::join!(old, new) }).await;
        let read = next.get("k").await.expect("ours");
        assert_eq!(read.as_deref(), Some(&b"new"[..]));
        let late = stale.put("k", "later still").await;
        assert!(late.is_err(), "a former holder's put was done");
        assert_eq!(value(&others, "k").await.as_deref(), Some("new"));
    }
    Ok(())
}

pub async fn a_put_given_up_midway_never_follows_a_later_one(bed: TestBed) {
    let guard = bed.mutex("a").acquire().await.expect("the lock is free");
    for round in 0..50 {
        {
            let text = format!("given up {round}");
            let mut put = std::pin::pin!(guard.put("k", text));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..round % 4 {
                if let Poll::Ready(done) = put.as_mut().poll(&mut context) {
                    done.expect("ours");
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let last = format!("last {round}");
        put(&guard, "k", &last).await;
        let read = guard.get("k").await.expect("ours");
        assert_eq!(read.as_deref(), Some(last.as_bytes()));
    }
    // Everything under way has finished by the time when all earlier requests are confirmed.
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let others = bed.process();
    assert_eq!(value(&others, "k").await.as_deref(), Some("last 49"));
}

pub async fn values_and_keys_up_to_the_limits_are_kept(bed: TestBed) {
    let others = bed.process();
    let guard = bed.mutex("a").acquire().await.expect("the lock is free");
    let segment = "\u{20ac}".repeat(85);
    let key = [segment.as_str(); 4].join("/");
    assert_eq!(key.len(), 1023);
    let long = vec![b'x'; MAX_VALUE_BYTES];
    guard.put(&key, &long).await.expect("within the limits");
    assert_eq!(others.get(&key).await.expect("an answer"), Some(long));
    let longer = vec![b'y'; MAX_VALUE_BYTES + 1];
    let error = guard.put(&key, longer).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let binary: Vec<u8> = (0..=255).collect();
    guard.put(&key, &binary).await.expect("within the limits");
    assert_eq!(guard.get(&key).await.expect("ours"), Some(binary));
    for odd in ["@floor", "%2F", "a b", "zookeeper", "\u{fffd}"] {
        put(&guard, odd, odd).await;
    }
    for odd in ["@floor", "%2F", "a b", "zookeeper", "\u{fffd}"] {
        assert_eq!(value(&others, odd).await.as_deref(), Some(odd));
    }
}

pub async fn values_are_not_locks(bed: TestBed) {
    let locks = bed.process();
    let guard = bed.mutex("k").acquire().await.expect("the lock is free");
    for key in ["k", "k/1", "z"] {
        put(&guard, key, "value").await;
    }
    let listed = locks.list("", None, 10).await.expect("an answer");
    let names: Vec<_> = listed.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["k"]);
    let other = bed.mutex("k/1").try_acquire().await.expect("an answer");
    assert!(
        other.is_some(),
        "a value stands in the way of the lock with its name"
    );
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    bed.eventually("no lock is left", async || {
        let listed = locks.list("k", None, 10).await.expect("an answer");
        listed.iter().all(|queue| queue.name.as_str() != "k")
    })
    .await;
    assert_eq!(value(&locks, "k").await.as_deref(), Some("value"));
}
