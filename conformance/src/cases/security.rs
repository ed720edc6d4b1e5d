//! Checks that messages of other clients do no harm.

use lock_core::{Admission, Enqueued, EntryId, Incarnation, Mode, Release, Removed, State, rule};

use crate::test_bed::{TestBed, ticket};

/// A client that guesses names and tokens frees no lock.
pub async fn a_forged_token_removes_nothing(bed: TestBed) {
    let (_, guard) = bed.holder("a").await;
    let true_entry = bed.queue("a").await.entries[0].id.clone();
    let session = bed.session().await;
    let number = true_entry.incarnation.expect("listed").get();
    for guess in [0, number - 1, number + 1, u64::MAX] {
        let forged = EntryId {
            incarnation: Incarnation::new(guess),
            ..true_entry.clone()
        };
        let ticket = ticket("a", Mode::Exclusive, 1);
        let removed = session.remove(&ticket, Some(&forged), &[]).await;
        assert!(
            !removed.is_ok_and(|removal| removal.removed == Removed::Removed),
            "incarnation {guess}"
        );
    }
    assert_eq!(bed.queue("a").await.entries[0].id, true_entry);
    // A client cannot jump a queue by naming another client's ticket, either.
    let (ask, ticket) = (rule::ask(Mode::Exclusive), ticket("a", Mode::Exclusive, 2));
    let enqueued = session.enqueue(&ticket, ask, Admission::IfFree).await;
    match enqueued.expect("an answer") {
        Enqueued::Busy => {}
        Enqueued::Placed(placed) => assert_eq!(placed.view.ahead[0].id.key, true_entry.key),
    }
    assert_eq!(guard.state(), State::Held);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

pub async fn no_name_leads_out_of_the_namespace(bed: TestBed) {
    let locks = bed.process();
    let names = [
        "..%2F..%2Fetc",
        "%2e%2e/x",
        "%00",
        "@session",
        "@sessions",
        "@sessions/1",
        "zookeeper/quota",
        "a\\..\\b",
        "{}",
        "$HOME",
        "*",
        "a;b",
        "'\"`",
    ];
    let mut guards = vec![];
    for name in names {
        let lock = locks.mutex(name).expect("a valid name");
        guards.push(lock.try_acquire().await.expect(name).expect(name));
    }
    let listed = locks.list("", None, 100).await.expect("an answer");
    let mut listed: Vec<_> = listed.iter().map(|queue| queue.name.as_str()).collect();
    let mut expected = names.to_vec();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}

pub async fn notes_of_other_clients_are_shown_unchanged(bed: TestBed) {
    let hostile = "\u{1b}]0;title\u{7}\r\n\"},{\"owner\":\"root\"}\0%s\u{202e}";
    let options = bed.options().with_owner(hostile).with_note(hostile);
    let locks = bed.process_with(options);
    let guard = locks.mutex("a").expect("a valid name").acquire().await;
    let _guard = guard.expect("the lock is free");
    let queue = bed.queue("a").await;
    assert_eq!(queue.entries.len(), 1);
    let metadata = queue.entries[0].metadata.as_ref().expect("ours");
    assert_eq!(metadata.owner, hostile);
    assert_eq!(metadata.note.as_deref(), Some(hostile));
}

/// A listing for one prefix reveals nothing about other names.
pub async fn a_prefix_is_only_a_prefix(bed: TestBed) {
    let locks = bed.process();
    let mut guards = vec![];
    for name in ["a", "a%", "a%2F", "a*", "b", "b/a", "\u{ffff}"] {
        let lock = locks.mutex(name).expect("a valid name");
        guards.push(lock.acquire().await.expect("the lock is free"));
    }
    for (prefix, expected) in [
        ("", 7),
        ("a", 4),
        ("a%", 2),
        ("a*", 1),
        ("*", 0),
        (".", 0),
        ("..", 0),
        ("/", 0),
        ("%", 0),
        ("b/", 1),
        ("\u{ffff}", 1),
        ("\0", 0),
    ] {
        let listed = locks.list(prefix, None, 100).await.expect("an answer");
        let names: Vec<_> = listed.iter().map(|queue| queue.name.as_str()).collect();
        assert!(
            names.iter().all(|name| name.starts_with(prefix)),
            "{names:?}"
        );
        assert_eq!(names.len(), expected, "{prefix:?}: {names:?}");
    }
}
