//! Checks locks that a process keeps between its holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lock_core::{
    AcquireOptions, Guard, LockName, Locks, Mode, Mutex, Release, Removed, Sticky, Token,
};

use crate::fixture::Skip;
use crate::test_bed::TestBed;

/// Longer than any case lasts.
const LONG: Duration = Duration::from_secs(3600);

/// Returns what keeps a lock until somebody else wants it.
fn kept() -> Sticky {
    Sticky::default().with_idle(LONG)
}

/// Returns a sticky mutex of this process.
fn sticky(locks: &Locks, name: &str, sticky: Sticky) -> Mutex {
    let mutex = locks.mutex(name).expect("a valid name");
    mutex.sticky(sticky).expect("in bounds")
}

async fn acquire(mutex: &Mutex) -> Guard {
    mutex.acquire().await.expect("our turn comes")
}

/// Returns a mutex that its process keeps, and the token of its entry.
async fn parked(locks: &Locks, name: &str) -> (Mutex, Token) {
    let mutex = sticky(locks, name, kept());
    let guard = acquire(&mutex).await;
    let token = guard.token();
    assert_eq!(guard.release().await.expect("an answer"), Release::Kept);
    (mutex, token)
}

pub async fn a_kept_lock_is_taken_again_with_its_token(bed: TestBed) {
    let locks = bed.process();
    let (mutex, token) = parked(&locks, "a").await;
    for turn in 1..=50 {
        // Another handle of the same lock shares what is kept.
        let mutex = sticky(&locks, "a", kept());
        let guard = bed.soon("the process has it", acquire(&mutex)).await;
        assert_eq!((guard.token(), guard.turn()), (token, turn));
        assert_eq!(guard.release().await.expect("an answer"), Release::Kept);
    }
    let stats = mutex.sticky_stats();
    assert_eq!((stats.placed, stats.hits, stats.recalls), (1, 50, 0));
    bed.depth("a", 1).await;
    let other = bed.mutex("a").try_acquire().await.expect("an answer");
    assert!(other.is_none(), "two have the lock");
}

pub async fn whoever_queues_behind_a_kept_lock_is_served(bed: TestBed) {
    for mode in [Mode::Exclusive, Mode::Shared] {
        let (mutex, token) = parked(&bed.process(), "a").await;
        let options = AcquireOptions::new().mode(mode);
        let other = bed.rwlock("a");
        let served = bed.soon("its turn", other.acquire_with(options)).await;
        let guard = served.expect("an answer").expect("without a limit");
        assert!(guard.token() > token);
        assert_eq!(mutex.sticky_stats().recalls, 1);
        let waiting = tokio::spawn({
            let mutex = mutex.clone();
            async move { acquire(&mutex).await }
        });
        bed.depth("a", 2).await;
        assert!(!waiting.is_finished(), "two have the lock");
        waiting.abort();
        bed.depth("a", 1).await;
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        // It cools down.
        let again = bed.soon("it is free", acquire(&mutex)).await;
        assert!(again.token() > token && again.turn() == 0);
        assert_eq!(again.release().await.expect("an answer"), Release::Released);
        bed.depth("a", 0).await;
    }
}

pub async fn a_holder_is_not_disturbed_by_those_behind(bed: TestBed) {
    let (mutex, token) = parked(&bed.process(), "a").await;
    let guard = acquire(&mutex).await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    bed.eventually("it is noticed", async || mutex.sticky_stats().recalls == 1)
        .await;
    assert!(waiter.waits(), "two have the lock");
    assert_eq!(guard.token(), token);
    // Those who are asked to give up do so in one round trip, and say so.
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let next = waiter.turn().await;
    assert_eq!(next.release().await.expect("an answer"), Release::Released);
}

pub async fn an_idle_lock_is_given_up(bed: TestBed) {
    let brief = Sticky::default().with_idle(Duration::from_millis(20));
    let mutex = sticky(&bed.process(), "a", brief);
    let guard = acquire(&mutex).await;
    assert_eq!(guard.release().await.expect("an answer"), Release::Kept);
    bed.depth("a", 0).await;
    let guard = acquire(&mutex).await;
    assert_eq!(guard.turn(), 0);
    drop(guard);
    bed.depth("a", 0).await;
    assert_eq!(mutex.sticky_stats().recalls, 0);
}

pub async fn a_kept_lock_is_given_up_when_it_is_told_so(bed: TestBed) {
    let locks = bed.process();
    let (mutex, token) = parked(&locks, "a").await;
    let given_up = mutex.give_up().await.expect("an answer");
    assert_eq!(given_up, Some(Release::Released));
    assert_eq!(bed.queue("a").await.entries, []);
    assert_eq!(mutex.give_up().await.expect("no request"), None);
    // A hold is none of its business.
    let guard = acquire(&mutex).await;
    assert!(guard.token() > token);
    assert_eq!(mutex.give_up().await.expect("no request"), None);
    assert_eq!(guard.release().await.expect("an answer"), Release::Kept);
    // The session takes everything with it.
    locks.close().await.expect("an answer");
    assert_eq!(bed.queue("a").await.entries, []);
    let guard = acquire(&mutex).await;
    assert_eq!(guard.turn(), 0);
}

pub async fn a_kept_lock_ends_with_its_process(bed: TestBed) {
    let locks = bed.process();
    let (mutex, _) = parked(&locks, "a").await;
    drop((mutex, locks));
    bed.depth("a", 0).await;
}

pub async fn a_kept_lock_that_was_evicted_is_not_taken_again(bed: TestBed) {
    let (mutex, token) = parked(&bed.process(), "a").await;
    let operator = bed.process();
    let queue = bed.queue("a").await;
    let evicted = operator.evict(&queue.name, &queue.entries[0].id).await;
    assert_eq!(evicted.expect("an answer"), Removed::Removed);
    // As with an eviction of a holder, the process learns of it a moment later.
    bed.eventually("another entry", async || {
        acquire(&mutex).await.token() > token
    })
    .await;
}

pub async fn a_kept_lock_ends_with_its_session(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let locks = bed.process();
    let (mutex, token) = parked(&locks, "a").await;
    let session = locks.session_id().expect("it is open");
    administrator.end_session(session).await;
    bed.eventually("another session", async || {
        let acquired = mutex.acquire().await;
        acquired.is_ok_and(|guard| guard.token() > token)
    })
    .await;
    Ok(())
}

pub async fn tasks_share_one_place_and_take_turns(bed: TestBed) {
    const TASKS: usize = 16;
    const HOLDS: usize = 20;
    let cohort = Sticky::default().with_idle(Duration::ZERO).with_turns(8);
    let locks = bed.process();
    let inside = Arc::new(AtomicBool::new(false));
    let holds = Arc::new(AtomicUsize::new(0));
    let tasks = (0..TASKS).map(|_| {
        let mutex = sticky(&locks, "a", cohort);
        let (inside, holds) = (inside.clone(), holds.clone());
        tokio::spawn(async move {
            for _ in 0..HOLDS {
                let guard = acquire(&mutex).await;
                assert!(!inside.swap(true, Ordering::SeqCst), "two have the lock");
                let number = holds.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.store(false, Ordering::SeqCst);
                drop(guard);
                // Some give up midway.
                if number % 5 == 0 {
                    let _ = mutex.acquire_timeout(Duration::ZERO).await;
                }
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    while holds.load(Ordering::SeqCst) < TASKS * HOLDS / 2 {
        let entries = bed.queue("a").await.entries.len();
        // The next entry may stand behind one that is being removed.
        assert!(entries <= 2, "{entries} entries of one process");
    }
    for task in tasks {
        bed.join("all turns", task).await;
    }
    assert_eq!(holds.load(Ordering::SeqCst), TASKS * HOLDS);
    bed.depth("a", 0).await;
    let mutex = sticky(&locks, "a", cohort);
    assert!(mutex.sticky_stats().hits > 0, "no turn was passed on");
}

pub async fn others_wait_for_no_more_turns_than_allowed(bed: TestBed) {
    const TURNS: u32 = 3;
    let cohort = kept().with_turns(TURNS).with_overtime(LONG);
    let (locks, holds) = (bed.process(), Arc::new(AtomicUsize::new(0)));
    let first = acquire(&sticky(&locks, "a", cohort)).await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let tasks = (0..2 * TURNS).map(|_| {
        let (mutex, holds) = (sticky(&locks, "a", cohort), holds.clone());
        tokio::spawn(async move {
            let guard = acquire(&mutex).await;
            holds.fetch_add(1, Ordering::SeqCst);
            drop(guard);
        })
    });
    let tasks: Vec<_> = tasks.collect();
    drop(first);
    let guard = waiter.turn().await;
    let before = 1 + holds.load(Ordering::SeqCst);
    assert!(before <= TURNS as usize, "{before} holds came first");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    for task in tasks {
        bed.join("all turns", task).await;
    }
}

pub async fn a_task_that_gives_up_leaves_the_place_to_the_next(bed: TestBed) {
    let (_, holder) = bed.holder("a").await;
    let locks = bed.process();
    let mutex = sticky(&locks, "a", kept());
    let first = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.acquire().await.map(drop) }
    });
    bed.depth("a", 2).await;
    let second = tokio::spawn(async move { acquire(&mutex).await });
    let place = bed.queue("a").await.entries[1].token;
    let last = bed.waiter("a", Mode::Exclusive).await;
    first.abort();
    let ended = first.await.expect_err("it was cancelled");
    assert!(ended.is_cancelled());
    assert_eq!(bed.queue("a").await.entries.len(), 3, "the place is gone");
    assert_eq!(
        holder.release().await.expect("an answer"),
        Release::Released
    );
    let guard = bed.join("its turn", second).await;
    assert_eq!(guard.token(), place);
    assert!(last.waits(), "two have the lock");
    drop(guard);
    drop(last.turn().await);
    bed.depth("a", 0).await;
}

pub async fn a_place_that_nobody_waits_in_is_given_up(bed: TestBed) {
    let (_, holder) = bed.holder("a").await;
    let mutex = sticky(&bed.process(), "a", kept());
    let tasks = (0..3).map(|_| {
        let mutex = mutex.clone();
        tokio::spawn(async move { acquire(&mutex).await })
    });
    let tasks: Vec<_> = tasks.collect();
    bed.depth("a", 2).await;
    for task in &tasks {
        assert!(!task.is_finished(), "two have the lock");
        task.abort();
    }
    bed.depth("a", 1).await;
    let busy = mutex.try_acquire().await.expect("an answer");
    assert!(busy.is_none(), "two have the lock");
    drop(holder);
    bed.depth("a", 0).await;
    let name = LockName::new("a").expect("valid");
    let free = bed.soon("it is free", acquire(&mutex)).await;
    assert_eq!(free.name(), &name);
}
