//! Checks that waiters are served in the order in which they came.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lock_core::{AnyGuard, Backend, ErrorKind, Locks, Mode, Release, Token};

use crate::fixture::Skip;
use crate::test_bed::{TestBed, Waiter, lock_ignoring_poison};

const GRANTED_WHILE_HELD: &str = "a waiter was granted the lock while another held it";

fn assert_in_order(last: Token, token: Token) {
    assert!(
        token > last,
        "the waiter with the token {token} was served after the one with the token {last}"
    );
}

pub async fn first_come_first_served(bed: TestBed) {
    let (_, holder) = bed.holder("a").await;
    let order = Arc::new(Mutex::new(Vec::<(usize, Token)>::new()));
    let mut waiters = vec![];
    for i in 0..20 {
        let (lock, order) = (bed.mutex("a"), order.clone());
        waiters.push(tokio::spawn(async move {
            let guard = lock.acquire().await.expect("our turn comes");
            lock_ignoring_poison(&order).push((i, guard.token()));
            assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        }));
        bed.depth("a", i + 2).await;
    }
    let first = holder.token();
    assert_eq!(
        holder.release().await.expect("an answer"),
        Release::Released
    );
    for waiter in waiters {
        bed.join("a turn", waiter).await;
    }
    let order = lock_ignoring_poison(&order).clone();
    assert!(
        order.iter().map(|(i, _)| *i).eq(0..20),
        "the waiters, in the order of their turns: {order:?}"
    );
    let rises = order.windows(2).all(|pair| pair[0].1 < pair[1].1);
    assert!(
        order[0].1 > first && rises,
        "the tokens do not rise from {first} on: {order:?}"
    );
}

pub async fn waiters_that_leave_do_not_break_the_line(bed: TestBed) {
    let (_, holder) = bed.holder("a").await;
    let mut waiters = vec![];
    for _ in 0..12 {
        waiters.push(bed.waiter("a", Mode::Exclusive).await);
    }
    // The sessions of both lists live on.
    let (mut stay, mut left) = (vec![], vec![]);
    for (i, waiter) in waiters.into_iter().enumerate() {
        if i % 3 == 1 || i == 5 {
            waiter.leave();
            left.push(waiter);
        } else {
            stay.push(waiter);
        }
    }
    bed.depth("a", stay.len() + 1).await;
    drop(holder);
    let mut last = Token(0);
    for waiter in stay {
        let guard = waiter.turn().await;
        assert_in_order(last, guard.token());
        last = guard.token();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
    bed.depth("a", 0).await;
}

/// Sessions that share a client, as the tasks of a process do, may hand locks over to each other.
pub async fn a_waiter_behind_one_that_gives_up_still_waits_for_the_holder(bed: TestBed) {
    const LEAVERS: usize = 8;
    let backend = bed.backend();
    let session = || Locks::new(backend.clone(), bed.options()).expect("options within bounds");
    let guard = session().mutex("a").expect("a valid name").acquire().await;
    let guard = guard.expect("the lock is free");
    let mut waiting = vec![];
    for _ in 0..LEAVERS {
        waiting.push(bed.waiter_of(session(), "a", Mode::Exclusive).await);
    }
    let stayer = bed.waiter_of(session(), "a", Mode::Exclusive).await;
    // The sessions stay open, because otherwise the entries could disappear with them.
    let mut left = vec![];
    // The waiters leave from the back of the queue to the front. Each departure is a chance for a
    // waiter to take the turn of another for its own.
    while let Some(leaver) = waiting.pop() {
        leaver.leave();
        left.push(leaver);
        bed.depth("a", waiting.len() + 2).await;
        // A wrong grant comes at once.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(stayer.waits(), "{GRANTED_WHILE_HELD}");
    }
    let token = guard.token();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_in_order(token, stayer.turn().await.token());
}

/// Makes a task with a session of its own in the process that has this backend.
async fn task_of(bed: &TestBed, backend: &Arc<dyn Backend>, mode: Mode) -> Waiter {
    let locks = Locks::new(backend.clone(), bed.options()).expect("options within bounds");
    bed.waiter_of(locks, "a", mode).await
}

/// Checks that the waiters are served in this order, each one when the one before has released, and
/// not earlier.
async fn check_served_in_turn(waiters: Vec<Waiter>) {
    let mut last = Token(0);
    let mut waiters = waiters.into_iter();
    while let Some(waiter) = waiters.next() {
        let guard = waiter.turn().await;
        assert_in_order(last, guard.token());
        last = guard.token();
        // A wrong grant comes at once.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(
            waiters.as_slice().iter().all(Waiter::waits),
            "{GRANTED_WHILE_HELD}"
        );
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
}

/// A task of a process in which others wait may know that it has to wait, too, but not for which
/// entry.
pub async fn a_contender_between_two_of_one_process_is_served_between(bed: TestBed) {
    let backend = bed.backend();
    let mut waiters = vec![];
    for _ in 0..6 {
        waiters.push(task_of(&bed, &backend, Mode::Exclusive).await);
    }
    for mode in [Mode::Exclusive, Mode::Shared, Mode::Exclusive] {
        waiters.push(bed.waiter("a", mode).await);
        for _ in 0..2 {
            waiters.push(task_of(&bed, &backend, Mode::Exclusive).await);
        }
    }
    check_served_in_turn(waiters).await;
    bed.depth("a", 0).await;
}

pub async fn a_waiter_that_gives_up_leaves_the_rest_of_its_process_in_order(bed: TestBed) {
    let backend = bed.backend();
    let (_, holder) = bed.holder("a").await;
    let mut stay = vec![];
    for _ in 0..4 {
        stay.push(task_of(&bed, &backend, Mode::Exclusive).await);
    }
    let mut left = vec![task_of(&bed, &backend, Mode::Exclusive).await];
    stay.push(bed.waiter("a", Mode::Exclusive).await);
    left.push(task_of(&bed, &backend, Mode::Exclusive).await);
    stay.push(task_of(&bed, &backend, Mode::Exclusive).await);
    left.push(task_of(&bed, &backend, Mode::Shared).await);
    stay.push(task_of(&bed, &backend, Mode::Exclusive).await);
    for (gone, leaver) in left.iter().enumerate() {
        leaver.leave();
        bed.depth("a", stay.len() + left.len() - gone).await;
    }
    assert_eq!(
        holder.release().await.expect("an answer"),
        Release::Released
    );
    check_served_in_turn(stay).await;
    bed.depth("a", 0).await;
}

/// The tasks inside, as tasks of several processes report them.
#[derive(Default)]
struct Inside {
    readers: usize,
    writers: usize,
    /// The token of the youngest task that ever came in, and of the youngest writer.
    last: u64,
    last_writer: u64,
}

impl Inside {
    fn enter(&mut self, guard: &AnyGuard) {
        assert_eq!(
            self.writers, 0,
            "a writer holds the lock, and another task was granted it"
        );
        let token = guard.token().0;
        if guard.mode() == Mode::Shared {
            assert!(
                token > self.last_writer,
                "a reader overtook a writer that had come before it"
            );
            self.readers += 1;
        } else {
            assert_eq!(
                self.readers, 0,
                "a reader holds the lock, and a writer was granted it"
            );
            assert!(
                token > self.last,
                "a writer was served after a task that had come later"
            );
            self.writers += 1;
            self.last_writer = token;
        }
        self.last = self.last.max(token);
    }

    fn leave(&mut self, guard: &AnyGuard) {
        match guard.mode() {
            Mode::Shared => self.readers -= 1,
            Mode::Exclusive => self.writers -= 1,
        }
    }
}

/// The crowd consists of readers, writers and waiters whose limit runs out, as tasks of two
/// processes.
pub async fn a_crowd_of_two_processes_is_served_in_order(bed: TestBed) {
    const TASKS: usize = 10;
    const TURNS: usize = 15;
    let (one, other) = (bed.backend(), bed.backend());
    let inside = Arc::new(Mutex::new(Inside::default()));
    let mut tasks = vec![];
    for task in 0..2 * TASKS {
        let backend = if task < TASKS { &one } else { &other };
        let locks = Locks::new(backend.clone(), bed.options()).expect("options within bounds");
        let lock = locks.rwlock("a").expect("a valid name");
        let inside = inside.clone();
        tasks.push(tokio::spawn(async move {
            for turn in 0..TURNS {
                let acquire = async {
                    let acquired: Result<AnyGuard, _> = match (task + turn) % 7 {
                        0 => lock.read().await.map(Into::into),
                        _ => lock.write().await.map(Into::into),
                    };
                    acquired.expect("our turn comes")
                };
                let limit = match (task + 3 * turn) % 5 {
                    0 => Duration::from_millis(fastrand::u64(0..10)),
                    _ => Duration::MAX,
                };
                let Ok(guard) = tokio::time::timeout(limit, acquire).await else {
                    continue;
                };
                lock_ignoring_poison(&inside).enter(&guard);
                tokio::time::sleep(Duration::from_millis(1)).await;
                lock_ignoring_poison(&inside).leave(&guard);
                assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            }
        }));
    }
    for task in tasks {
        bed.join("all turns", task).await;
    }
    bed.depth("a", 0).await;
}

pub async fn waiters_whose_sessions_end_do_not_break_the_line(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let (_, holder) = bed.holder("a").await;
    let mut waiters = vec![];
    for _ in 0..6 {
        waiters.push(bed.waiter("a", Mode::Exclusive).await);
    }
    for place in [4, 2, 0] {
        let waiter = waiters.remove(place);
        let session = waiter.locks.session_id().expect("open");
        administrator.end_session(session).await;
        let error = waiter.outcome().await.expect_err("its place is gone");
        assert!(
            matches!(error.kind(), ErrorKind::SessionLost(_) | ErrorKind::Evicted),
            "{error}"
        );
    }
    bed.depth("a", waiters.len() + 1).await;
    assert_eq!(
        holder.release().await.expect("an answer"),
        Release::Released
    );
    let mut last = Token(0);
    for waiter in waiters {
        let guard = waiter.turn().await;
        assert_in_order(last, guard.token());
        last = guard.token();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
    bed.depth("a", 0).await;
    Ok(())
}

pub async fn a_storm_of_tries_does_not_hold_up_a_waiter(bed: TestBed) {
    let (_, holder) = bed.holder("a").await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let tries = (0..4).map(|_| {
        let lock = bed.mutex("a");
        tokio::spawn(async move {
            for _ in 0..50 {
                let tried = lock.try_acquire().await.expect("an answer");
                assert!(tried.is_none(), "a try overtook the waiter");
            }
        })
    });
    let tries: Vec<_> = tries.collect();
    assert_eq!(
        holder.release().await.expect("an answer"),
        Release::Released
    );
    let guard = waiter.turn().await;
    for task in tries {
        bed.join("the tries", task).await;
    }
    bed.depth("a", 1).await;
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    bed.depth("a", 0).await;
}
