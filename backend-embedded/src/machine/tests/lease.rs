//! Leases: bounds, keys, expiry and extensions, all with injected time.

use super::*;
use crate::config::{MAX_LEASE_TTL, MIN_LEASE_TTL};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Machine {
    fn give(&mut self, now: Duration, id: LeaseId, ttl: Duration) -> Duration {
        self.grant(now, id, ttl, &mut Changes::default()).unwrap()
    }

    fn remaining(&self, now: Duration, id: LeaseId) -> Duration {
        self.lease(now, id).unwrap().1
    }

    fn attached(&self, id: LeaseId) -> Vec<Bytes> {
        self.lease(Duration::ZERO, id).unwrap().2.cloned().collect()
    }
}

#[test]
fn the_time_to_live_is_bounded_and_whole() {
    let mut machine = machine();
    assert_eq!(machine.give(secs(0), 1, secs(0)), MIN_LEASE_TTL);
    assert_eq!(
        machine.give(secs(0), 2, Duration::from_millis(2001)),
        secs(3)
    );
    assert_eq!(machine.give(secs(0), 3, MAX_LEASE_TTL), MAX_LEASE_TTL);
    let mut changes = Changes::default();
    let over = MAX_LEASE_TTL + Duration::from_nanos(1);
    let refusal = machine.grant(secs(0), 4, over, &mut changes);
    assert!(matches!(refusal, Err(Error::LeaseTtlTooLarge { .. })));
    for id in [0, -1] {
        let refusal = machine.grant(secs(0), id, secs(5), &mut changes);
        assert!(matches!(refusal, Err(Error::InvalidLeaseId { .. })));
    }
    let refusal = machine.grant(secs(0), 3, secs(5), &mut changes);
    assert!(matches!(refusal, Err(Error::LeaseExists { id: 3 })));
    assert!(changes.is_empty());
    assert_eq!(machine.leases(), [1, 2, 3]);
}

#[test]
fn the_number_of_leases_is_limited() {
    let mut machine = Machine::new(Limits {
        leases: 2,
        ..Limits::default()
    });
    machine.give(secs(0), 1, secs(5));
    machine.give(secs(0), 2, secs(5));
    let refusal = machine.grant(secs(0), 3, secs(5), &mut Changes::default());
    assert!(matches!(refusal, Err(Error::TooManyLeases { limit: 2 })));
    machine.revoke(1, &mut Changes::default()).unwrap();
    machine.give(secs(0), 3, secs(5));
}

#[test]
fn a_revoke_deletes_the_keys_at_one_revision() {
    let mut machine = machine();
    machine.give(secs(0), 7, secs(5));
    machine.give(secs(0), 8, secs(5));
    let mut changes = Changes::default();
    for (key, lease) in [("b", 7), ("a", 7), ("c", 8), ("d", 0)] {
        machine.put(&put_on(key, lease), &mut changes).unwrap();
    }
    assert_eq!(machine.attached(7), [bytes("a"), bytes("b")]);
    let mut changes = Changes::default();
    machine.revoke(7, &mut changes).unwrap();
    assert_eq!(machine.revision(), 6);
    let gone: Vec<_> = (changes.events.iter())
        .map(|event| (event.deleted, event.kv.key.clone(), event.kv.mod_revision))
        .collect();
    assert_eq!(gone, [(true, bytes("a"), 6), (true, bytes("b"), 6)]);
    assert_eq!(changes.leases, [LeaseChange::Removed { id: 7 }]);
    assert_eq!(machine.keys_in(KeyRange::all()), ["c", "d"]);
    assert!(matches!(
        machine.revoke(7, &mut Changes::default()),
        Err(Error::LeaseNotFound { id: 7 })
    ));
    // A lease without keys is a change, but not one of the revision.
    machine.give(secs(0), 9, secs(5));
    let mut changes = Changes::default();
    machine.revoke(9, &mut changes).unwrap();
    assert_eq!((machine.revision(), changes.is_empty()), (6, false));
}

#[test]
fn keys_follow_their_lease() {
    let mut machine = machine();
    machine.give(secs(0), 7, secs(5));
    machine.give(secs(0), 8, secs(5));
    let mut changes = Changes::default();
    machine.put(&put_on("a", 7), &mut changes).unwrap();
    machine.put(&put_on("a", 8), &mut changes).unwrap();
    assert_eq!(machine.attached(7), [] as [Bytes; 0]);
    assert_eq!(machine.attached(8), [bytes("a")]);
    machine.delete(&delete(one("a")), &mut changes).unwrap();
    assert_eq!(machine.attached(8), [] as [Bytes; 0]);
    machine.put(&put_on("a", 8), &mut changes).unwrap();
    machine.set("a", "without a lease");
    machine.revoke(8, &mut changes).unwrap();
    assert_eq!(machine.keys_in(KeyRange::all()), ["a"]);
}

#[test]
fn a_lease_expires_a_full_time_to_live_after_its_last_renewal() {
    let mut machine = machine();
    machine.give(secs(10), 1, secs(5));
    machine.give(secs(11), 2, secs(3));
    assert_eq!(machine.next_expiry(), Some(secs(14)));
    assert_eq!(machine.first_expired(Duration::from_millis(13_999)), None);
    assert_eq!(machine.first_expired(secs(14)), Some(2));
    assert_eq!(machine.renew(secs(14), 2).unwrap(), secs(3));
    assert_eq!(machine.first_expired(secs(14)), None);
    assert_eq!(machine.first_expired(secs(15)), Some(1));
    machine.revoke(1, &mut Changes::default()).unwrap();
    assert_eq!(machine.remaining(secs(15), 2), secs(2));
    assert_eq!(machine.remaining(secs(20), 2), secs(0));
    machine.revoke(2, &mut Changes::default()).unwrap();
    assert_eq!(machine.next_expiry(), None);
    let refusal = machine.renew(secs(20), 2);
    assert!(matches!(refusal, Err(Error::LeaseNotFound { id: 2 })));
}

#[test]
fn a_delay_is_given_back_to_every_lease_and_no_renewal_is_cut() {
    let mut machine = machine();
    machine.give(secs(10), 1, secs(5));
    machine.give(secs(12), 2, secs(5));
    machine.extend_leases(secs(100));
    assert_eq!(machine.next_expiry(), Some(secs(115)));
    assert_eq!(machine.remaining(secs(112), 2), secs(5));
    // A lease that is granted or renewed after that has its full time from then on, no more and no
    // less.
    machine.renew(secs(112), 1).unwrap();
    machine.give(secs(112), 3, secs(1));
    assert_eq!(machine.remaining(secs(112), 1), secs(5));
    assert_eq!(machine.remaining(secs(112), 3), secs(1));
    assert_eq!(machine.first_expired(secs(113)), Some(3));
}

#[test]
fn a_restored_store_is_the_same_with_full_leases() {
    let mut old = machine();
    old.give(secs(1), 7, secs(5));
    old.give(secs(1), 8, secs(60));
    let mut changes = Changes::default();
    old.put(&put_on("a/1", 7), &mut changes).unwrap();
    old.set("a/2", "v");
    old.extend_leases(secs(3));
    let (revision, keys, _) = old.everything();
    let snapshot = Snapshot {
        revision,
        compact_revision: 2,
        keys,
        leases: vec![(7, secs(5)), (8, secs(60)), (9, secs(7))],
    };
    let mut new = Machine::restore(Limits::default(), snapshot, secs(50));
    assert_eq!(new.everything().1, old.everything().1);
    assert_eq!((new.revision(), new.compact_revision()), (revision, 2));
    assert_eq!(new.bytes(), old.bytes());
    assert_eq!(new.attached(7), [bytes("a/1")]);
    assert_eq!(new.next_expiry(), Some(secs(55)));
    // Back at the recorded state, a lease that lived all along keeps its deadline, and one that had
    // just been removed starts anew.
    new.adopt_volatile(&old);
    assert_eq!(new.remaining(secs(0), 7), secs(9));
    assert_eq!(new.remaining(secs(50), 8), secs(14));
    assert_eq!(new.remaining(secs(50), 9), secs(7));
}

#[test]
fn abandoned_leases_make_room_where_there_are_too_many() {
    const MINUTE: Duration = Duration::from_secs(60);
    let mut machine = Machine::new(Limits::default().with_leases(3));
    let mut changes = Changes::default();
    let grant = |machine: &mut Machine, changes: &mut Changes, now, id, ttl| {
        machine.grant(now, id, ttl, changes)
    };
    let century = Duration::from_secs(9_000_000_000);
    grant(&mut machine, &mut changes, Duration::ZERO, 1, century).unwrap();
    grant(&mut machine, &mut changes, Duration::ZERO, 2, century).unwrap();
    grant(&mut machine, &mut changes, Duration::ZERO, 3, 3 * MINUTE).unwrap();
    machine.put(&put_on("k", 2), &mut changes).unwrap();
    let soon = 59 * MINUTE;
    let refused = grant(&mut machine, &mut changes, MINUTE, 4, MINUTE);
    assert!(matches!(refused, Err(Error::TooManyLeases { limit: 3 })));
    machine.renew(soon, 3).unwrap();
    let refused = grant(&mut machine, &mut changes, soon, 4, MINUTE);
    assert!(matches!(refused, Err(Error::TooManyLeases { limit: 3 })));

    let later = 60 * MINUTE;
    let mut changes = Changes::default();
    grant(&mut machine, &mut changes, later, 4, MINUTE).unwrap();
    assert_eq!(
        machine.leases(),
        [4, 3, 2],
        "those with keys or renewed stay, and the first to expire is the first"
    );
    assert_eq!(changes.leases[0], LeaseChange::Removed { id: 1 });
    assert!(changes.events.is_empty());
}

#[test]
fn one_subject_has_no_more_leases_than_it_may() {
    let mut machine = Machine::new(Limits::default().with_leases_of_subject(2));
    let mut changes = Changes::default();
    let [ours, others] = ["ours", "others"].map(Arc::<str>::from);
    for id in 1..=3 {
        machine.check_leases_of(&ours).unwrap();
        let owner = if id == 2 { &others } else { &ours };
        let ttl = Duration::from_secs(10);
        machine
            .grant(Duration::ZERO, id, ttl, &mut changes)
            .unwrap();
        machine.set_lease_owner(id, owner);
    }
    let refused = machine.check_leases_of(&ours);
    assert!(matches!(refused, Err(Error::TooManyLeases { limit: 2 })));
    machine.check_leases_of(&others).unwrap();
    machine.set_lease_owner(3, &others);
    machine.check_leases_of(&ours).unwrap();
    machine.revoke(2, &mut changes).unwrap();
    machine.check_leases_of(&others).unwrap();
}
