//! Checks the token offset: no token falls, whenever the offset is raised. An offset stays for
//! ever, so these cases need a store of their own.

use std::sync::{Arc, Mutex};

use lock_core::token_offset::MAX_TOKEN_OFFSET;
use lock_core::{ErrorKind, Locks, Raised, Release, Token};

use crate::fixture::Skip;
use crate::test_bed::TestBed;

/// A number above those that any coordinator gives by itself: the embedded one begins at the
/// microseconds since 1970.
const FAR: u64 = 1 << 60;

async fn raise(bed: &TestBed, locks: &Locks, offset: u64) -> Raised {
    let raised = bed
        .soon("an answer", locks.raise_token_offset(offset))
        .await;
    raised.expect("an answer")
}

/// Raises the offset as soon as nobody uses a lock, as an administrator tries.
async fn raise_in_the_end(bed: &TestBed, locks: &Locks, offset: u64) -> u64 {
    loop {
        if let Raised::To(offset) = raise(bed, locks, offset).await {
            return offset.get();
        }
        tokio::task::yield_now().await;
    }
}

/// Takes a lock once, in a process that ends afterwards, and returns the token.
async fn token(bed: &TestBed, name: &str) -> Token {
    let locks = bed.process();
    let lock = locks.mutex(name).expect("a valid name");
    let guard = bed.soon("our turn", lock.acquire()).await.expect("granted");
    let queue = bed.queue(name).await;
    assert_eq!(queue.entries[0].token, guard.token(), "all see the same");
    let token = guard.token();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    locks.close().await.expect("an answer");
    token
}

pub async fn tokens_include_the_offset(bed: TestBed) -> Result<(), Skip> {
    let admin = bed.offset_raiser()?;
    let before = token(&bed, "a").await;
    assert!(before < Token(FAR));
    assert_eq!(raise_in_the_end(&bed, &admin, FAR).await, FAR);
    for _ in 0..3 {
        assert!(token(&bed, "a").await > Token(FAR));
        assert!(token(&bed, "b/c").await > Token(FAR));
    }
    let listed = bed.process();
    let guard = bed.mutex("a").acquire().await.expect("the lock is free");
    let queues = listed.list("", None, 10).await.expect("an answer");
    assert_eq!(queues[0].entries[0].token, guard.token());
    let reader = bed.process();
    let lock = reader.rwlock("r").expect("a valid name");
    assert!(lock.read().await.expect("free").token() > guard.token());
    Ok(())
}

pub async fn raw_locks_have_no_offset(bed: TestBed) -> Result<(), Skip> {
    let name = bed.raw("/raw/offset")?;
    let admin = bed.offset_raiser()?;
    assert_eq!(raise_in_the_end(&bed, &admin, FAR).await, FAR);
    // Other clients in the queue have the coordinator's own numbers, so this client has them, too.
    let raw = bed.process();
    let lock = raw.mutex(&name).expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert!(guard.token() < Token(FAR));
    let queue = raw.queue(&name).await.expect("an answer");
    assert_eq!(queue.entries[0].token, guard.token());
    Ok(())
}

pub async fn the_offset_never_falls(bed: TestBed) -> Result<(), Skip> {
    let admin = bed.offset_raiser()?;
    for (asked, offset) in [
        (1000, 1000),
        (7, 1000),
        (1000, 1000),
        (2000, 2000),
        (0, 2000),
    ] {
        assert_eq!(
            raise_in_the_end(&bed, &admin, asked).await,
            offset,
            "{asked}"
        );
    }
    let error = admin
        .raise_token_offset(MAX_TOKEN_OFFSET + 1)
        .await
        .expect_err("too high");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        raise_in_the_end(&bed, &admin, MAX_TOKEN_OFFSET).await,
        MAX_TOKEN_OFFSET
    );
    let token = token(&bed, "a").await;
    assert!(token > Token(MAX_TOKEN_OFFSET));
    assert!(i64::try_from(token.0).is_ok(), "a database keeps it");
    Ok(())
}

pub async fn the_offset_is_not_raised_under_locks_in_use(bed: TestBed) -> Result<(), Skip> {
    let admin = bed.offset_raiser()?;
    let locks = bed.process();
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(raise(&bed, &admin, FAR).await, Raised::InUse);
    let next = bed.process();
    let waiter = next.rwlock("a").expect("a valid name");
    let waiter = tokio::spawn(async move { waiter.read().await });
    bed.depth("a", 2).await;
    assert_eq!(raise(&bed, &admin, FAR).await, Raised::InUse);
    let first = guard.token();
    assert!(first < Token(FAR));
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let second = bed.join("its turn", waiter).await;
    let second = second.expect("granted");
    assert!(second.token() > first && second.token() < Token(FAR));
    assert_eq!(raise(&bed, &admin, FAR).await, Raised::InUse);
    assert_eq!(
        second.release().await.expect("an answer"),
        Release::Released
    );
    locks.close().await.expect("an answer");
    next.close().await.expect("an answer");
    assert_eq!(raise_in_the_end(&bed, &admin, FAR).await, FAR);
    Ok(())
}

pub async fn a_session_from_before_knows_of_the_new_offset(bed: TestBed) -> Result<(), Skip> {
    let admin = bed.offset_raiser()?;
    let idle = bed.process();
    let lock = idle.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let session = idle.session_id();
    match raise(&bed, &admin, FAR).await {
        Raised::To(offset) => {
            assert_eq!(offset.get(), FAR);
            assert_eq!(idle.session_id(), session, "and goes on");
        }
        // Where sessions cannot learn of the new offset, any session prevents the change, idle or
        // not.
        other => {
            assert_eq!(other, Raised::InUse);
            idle.close().await.expect("an answer");
            assert_eq!(raise_in_the_end(&bed, &admin, FAR).await, FAR);
        }
    }
    let guard = lock.try_acquire().await.expect("an answer");
    assert!(guard.expect("the lock is free").token() > Token(FAR));
    Ok(())
}

pub async fn tokens_rise_while_the_offset_is_raised(bed: TestBed) -> Result<(), Skip> {
    const PROCESSES: usize = 3;
    const RAISES: u64 = 5;
    let admin = bed.offset_raiser()?;
    let log = Arc::new(Mutex::new(Vec::<Token>::new()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let workers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let (locks, log, stopped) = (bed.process(), log.clone(), stopped.clone());
            tokio::spawn(async move {
                let lock = locks.mutex("a").expect("a valid name");
                while !*stopped.borrow() {
                    let guard = lock.acquire().await.expect("granted");
                    log.lock().expect("no panic").push(guard.token());
                    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
                    // Now and then nobody has a session or an entry in the queue.
                    locks.close().await.expect("an answer");
                    tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(0..20)))
                        .await;
                }
            })
        })
        .collect();
    let grants = || log.lock().expect("no panic").len();
    for step in 1..=RAISES {
        let offset = step << 40;
        let raised = bed
            .soon(
                "a moment without users",
                raise_in_the_end(&bed, &admin, offset),
            )
            .await;
        assert_eq!(raised, offset);
        let before = grants();
        bed.eventually("more grants", async || grants() > before + PROCESSES)
            .await;
        let last = log.lock().expect("no panic").last().copied();
        assert!(
            last > Some(Token(offset)),
            "the latest token is {last:?}, with an offset of {offset}"
        );
    }
    stop.send_replace(true);
    for worker in workers {
        bed.join("the end", worker).await;
    }
    let log = log.lock().expect("no panic");
    assert!(
        log.windows(2).all(|pair| pair[0] < pair[1]),
        "in the order of the grants: {log:?}"
    );
    Ok(())
}
