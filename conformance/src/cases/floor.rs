//! The floor under the tokens: none falls, whatever is raised when. A floor stays for ever, so these
//! cases need a store of their own.

use std::sync::{Arc, Mutex};

use lock_core::floor::MAX_FLOOR;
use lock_core::{ErrorKind, Locks, Raised, Release, Token};

use crate::bench::Bench;
use crate::fixture::Skip;

/// Above what any coordinator numbers by itself: the embedded one begins at the microseconds since
/// 1970.
const FAR: u64 = 1 << 60;

async fn raise(bench: &Bench, locks: &Locks, floor: u64) -> Raised {
    let raised = bench.soon("an answer", locks.raise_floor(floor)).await;
    raised.expect("an answer")
}

/// Raises the floor as soon as nobody uses a lock, as an administrator tries.
async fn raise_in_the_end(bench: &Bench, locks: &Locks, floor: u64) -> u64 {
    loop {
        if let Raised::To(floor) = raise(bench, locks, floor).await {
            return floor.get();
        }
        tokio::task::yield_now().await;
    }
}

/// Takes a lock once, in a process that ends then.
async fn token(bench: &Bench, name: &str) -> Token {
    let locks = bench.process();
    let lock = locks.mutex(name).expect("a valid name");
    let guard = bench
        .soon("our turn", lock.acquire())
        .await
        .expect("granted");
    let queue = bench.queue(name).await;
    assert_eq!(queue.entries[0].token, guard.token(), "all see the same");
    let token = guard.token();
    assert_eq!(guard.release().await, Release::Released);
    locks.close().await.expect("an answer");
    token
}

pub async fn tokens_stand_on_the_floor(bench: Bench) -> Result<(), Skip> {
    let admin = bench.floor_raiser()?;
    let before = token(&bench, "a").await;
    assert!(before < Token(FAR));
    assert_eq!(raise_in_the_end(&bench, &admin, FAR).await, FAR);
    for _ in 0..3 {
        assert!(token(&bench, "a").await > Token(FAR));
        assert!(token(&bench, "b/c").await > Token(FAR));
    }
    let listed = bench.process();
    let guard = bench.mutex("a").acquire().await.expect("the lock is free");
    let queues = listed.list("", None, 10).await.expect("an answer");
    assert_eq!(queues[0].entries[0].token, guard.token());
    let reader = bench.process();
    let lock = reader.rwlock("r").expect("a valid name");
    assert!(lock.read().await.expect("free").token() > guard.token());
    Ok(())
}

pub async fn raw_locks_have_no_floor(bench: Bench) -> Result<(), Skip> {
    let name = bench.raw("/raw/floor")?;
    let admin = bench.floor_raiser()?;
    assert_eq!(raise_in_the_end(&bench, &admin, FAR).await, FAR);
    // Other clients in the queue have the coordinator's own numbers, so we have, too.
    let raw = bench.process();
    let lock = raw.mutex(&name).expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert!(guard.token() < Token(FAR));
    let queue = raw.queue(&name).await.expect("an answer");
    assert_eq!(queue.entries[0].token, guard.token());
    Ok(())
}

pub async fn the_floor_never_falls(bench: Bench) -> Result<(), Skip> {
    let admin = bench.floor_raiser()?;
    for (asked, floor) in [
        (1000, 1000),
        (7, 1000),
        (1000, 1000),
        (2000, 2000),
        (0, 2000),
    ] {
        assert_eq!(
            raise_in_the_end(&bench, &admin, asked).await,
            floor,
            "{asked}"
        );
    }
    let error = admin
        .raise_floor(MAX_FLOOR + 1)
        .await
        .expect_err("too high");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(raise_in_the_end(&bench, &admin, MAX_FLOOR).await, MAX_FLOOR);
    let token = token(&bench, "a").await;
    assert!(token > Token(MAX_FLOOR));
    assert!(i64::try_from(token.0).is_ok(), "a database keeps it");
    Ok(())
}

pub async fn the_floor_is_not_raised_under_locks_in_use(bench: Bench) -> Result<(), Skip> {
    let admin = bench.floor_raiser()?;
    let locks = bench.process();
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(raise(&bench, &admin, FAR).await, Raised::InUse);
    let next = bench.process();
    let waiter = next.rwlock("a").expect("a valid name");
    let waiter = tokio::spawn(async move { waiter.read().await });
    bench.depth("a", 2).await;
    assert_eq!(raise(&bench, &admin, FAR).await, Raised::InUse);
    let first = guard.token();
    assert!(first < Token(FAR));
    assert_eq!(guard.release().await, Release::Released);
    let second = bench.soon("its turn", waiter).await.expect("no panic");
    let second = second.expect("granted");
    assert!(second.token() > first && second.token() < Token(FAR));
    assert_eq!(raise(&bench, &admin, FAR).await, Raised::InUse);
    assert_eq!(second.release().await, Release::Released);
    locks.close().await.expect("an answer");
    next.close().await.expect("an answer");
    assert_eq!(raise_in_the_end(&bench, &admin, FAR).await, FAR);
    Ok(())
}

pub async fn a_session_from_before_knows_of_the_new_floor(bench: Bench) -> Result<(), Skip> {
    let admin = bench.floor_raiser()?;
    let idle = bench.process();
    let lock = idle.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await, Release::Released);
    let session = idle.session_id();
    match raise(&bench, &admin, FAR).await {
        Raised::To(floor) => {
            assert_eq!(floor.get(), FAR);
            assert_eq!(idle.session_id(), session, "and goes on");
        }
        // Where sessions cannot be told, they are in the way, idle or not.
        Raised::InUse => {
            idle.close().await.expect("an answer");
            assert_eq!(raise_in_the_end(&bench, &admin, FAR).await, FAR);
        }
    }
    let guard = lock.try_acquire().await.expect("an answer");
    assert!(guard.expect("the lock is free").token() > Token(FAR));
    Ok(())
}

pub async fn tokens_rise_while_the_floor_is_raised(bench: Bench) -> Result<(), Skip> {
    const PROCESSES: usize = 3;
    const RAISES: u64 = 5;
    let admin = bench.floor_raiser()?;
    let log = Arc::new(Mutex::new(Vec::<Token>::new()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let workers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let (locks, log, stopped) = (bench.process(), log.clone(), stopped.clone());
            tokio::spawn(async move {
                let lock = locks.mutex("a").expect("a valid name");
                while !*stopped.borrow() {
                    let guard = lock.acquire().await.expect("granted");
                    log.lock().expect("no panic").push(guard.token());
                    assert_eq!(guard.release().await, Release::Released);
                    // Now and then nobody has a session, nor stands in the queue.
                    locks.close().await.expect("an answer");
                    tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(0..20)))
                        .await;
                }
            })
        })
        .collect();
    let grants = || log.lock().expect("no panic").len();
    for step in 1..=RAISES {
        let floor = step << 40;
        let raised = bench
            .soon(
                "a moment without users",
                raise_in_the_end(&bench, &admin, floor),
            )
            .await;
        assert_eq!(raised, floor);
        let before = grants();
        bench
            .eventually("more grants", async || grants() > before + PROCESSES)
            .await;
        let last = log.lock().expect("no panic").last().copied();
        assert!(last > Some(Token(floor)), "{last:?} on a floor of {floor}");
    }
    stop.send_replace(true);
    for worker in workers {
        bench.soon("the end", worker).await.expect("no panic");
    }
    let log = log.lock().expect("no panic");
    assert!(
        log.windows(2).all(|pair| pair[0] < pair[1]),
        "in the order of the grants: {log:?}"
    );
    Ok(())
}
