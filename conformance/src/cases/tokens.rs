//! Checks that fencing tokens rise with every grant.

use std::time::Duration;

use lock_core::{Mode, Release, Token};

use crate::fixture::Skip;
use crate::test_bed::{TestBed, is_ours};

fn assert_rises(last: Token, token: Token) {
    assert!(
        token > last,
        "the grant after the one with the token {last} has the token {token}, which is not higher"
    );
}

pub async fn tokens_rise_over_sessions(bed: TestBed) {
    let mut last = Token(0);
    for _ in 0..5 {
        let (locks, guard) = bed.holder("a").await;
        assert_rises(last, guard.token());
        last = guard.token();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        locks.close().await.expect("an answer");
    }
}

pub async fn tokens_rise_within_a_session(bed: TestBed) {
    let lock = bed.mutex("a");
    let mut last = Token(0);
    for _ in 0..20 {
        let guard = lock.acquire().await.expect("the lock is free");
        assert_rises(last, guard.token());
        last = guard.token();
        assert_eq!(bed.queue("a").await.entries[0].token, last);
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
}

pub async fn readers_have_tokens_of_their_own(bed: TestBed) {
    let lock = bed.rwlock("a");
    let mut readers = vec![];
    for _ in 0..3 {
        readers.push(lock.read().await.expect("readers share"));
    }
    let writer = bed.waiter("a", Mode::Exclusive).await;
    let tokens: Vec<Token> = readers.iter().map(|guard| guard.token()).collect();
    assert!(
        tokens.windows(2).all(|pair| pair[0] < pair[1]),
        "the tokens of readers that came one after the other do not rise: {tokens:?}"
    );
    drop(readers);
    let writer = writer.turn().await;
    assert_rises(tokens[2], writer.token());
}

pub async fn tokens_rise_over_a_restart_and_a_holder_keeps_its_own(
    bed: TestBed,
) -> Result<(), Skip> {
    // The servers may be away for long on a busy machine.
    let bed = bed.with_ttl(Duration::from_secs(60));
    let members = bed.members()?;
    let (_, guard) = bed.holder("a").await;
    let token = guard.token();
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    bed.restart_all(members).await;
    bed.depth("a", 2).await;
    assert_eq!(bed.queue("a").await.entries[0].token, token);
    assert!(is_ours(&guard), "the restart cost the lock: {guard:?}");
    assert!(
        waiter.waits(),
        "the restart ended the wait while the lock was held"
    );
    assert_eq!(guard.token(), token);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let next = waiter.turn().await;
    assert_rises(token, next.token());
    assert_eq!(next.release().await.expect("an answer"), Release::Released);
    Ok(())
}
