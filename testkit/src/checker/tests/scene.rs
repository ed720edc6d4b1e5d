//! Makes histories by hand. Times are in milliseconds.

use std::time::Duration;

use lock_core::clock::BootInstant;
use lock_core::{Mode, SessionId, Token};

use crate::checker::{Blame, Rule, check};
use crate::history::{
    Access, Cause, DataAccess, DataAnswer, DataRequest, Deletion, Entry, Fault, History, Op, OpId,
    Outcome, Raise, Removal, Role, Shown, Store, Target,
};

/// The time to live of a session in these histories, from its renewal on.
pub const TTL: u64 = 2_000;

pub fn at(ms: u64) -> BootInstant {
    BootInstant::from_nanos(ms * 1_000_000)
}

/// Returns an acquire of a contender, whose number is also that of its session.
pub fn op(contender: u32, number: u32) -> OpId {
    OpId {
        contender,
        life: 0,
        number,
    }
}

pub struct Scene(pub History);

impl Scene {
    pub fn new() -> Self {
        Scene(History {
            store: Store {
                ours: false,
                recovery: Duration::from_secs(1),
                ttl: Duration::from_millis(TTL),
                handoff: None,
            },
            ..History::default()
        })
    }

    /// Adds a call for the lock `a`, which gets a place by this revision two milliseconds later.
    pub fn queue(&mut self, id: OpId, mode: Mode, called: u64, revision: u64) -> OpId {
        let session = SessionId(id.contender.into());
        self.0.ops.push(Op {
            role: Role::Contender,
            id,
            lock: "a".into(),
            mode,
            called: at(called),
            asked: vec![(session, at(called))],
            placed: Some((Token(revision), at(called + 2))),
            outcome: Outcome::Open,
            shown: vec![],
            lost: vec![],
            data: vec![],
            release: None,
            removals: vec![],
            died: None,
        });
        self.0.entries.push(Entry {
            key: format!("a/{session}-{revision}"),
            lock: "a".into(),
            mode,
            session,
            op: Some(id),
            created: revision,
            token: Token(revision),
            deleted: None,
        });
        id
    }

    /// Adds a turn with a place of the lock `a`, from its grant to its release.
    pub fn turn(&mut self, id: OpId, place: OpId, from: u64, to: u64) {
        self.op(place).role = Role::Place;
        let (token, _) = self.op(place).placed.expect("it has a place");
        let granted = match self.op(place).grant() {
            Some((_, first)) => first.min(at(from)),
            None => at(from),
        };
        self.op(place).outcome = Outcome::Granted(token, granted);
        let turn = Op {
            id,
            role: Role::Turn,
            called: at(from - 1),
            asked: vec![],
            placed: None,
            outcome: Outcome::Granted(token, at(from)),
            shown: vec![],
            release: Some(at(to)),
            removals: vec![],
            ..self.op(place).clone()
        };
        self.0.ops.push(turn);
        self.show(id, from, Some(from - 1 + TTL));
    }

    /// Adds the grant of an acquire, with a deadline that counts from a millisecond before.
    pub fn grant(&mut self, id: OpId, when: u64) {
        let (token, _) = self.op(id).placed.expect("it has a place");
        self.op(id).outcome = Outcome::Granted(token, at(when));
        self.show(id, when, Some(when - 1 + TTL));
    }

    /// Adds an acquire that queues and is granted at once.
    pub fn hold(&mut self, id: OpId, mode: Mode, called: u64, revision: u64) -> OpId {
        self.queue(id, mode, called, revision);
        self.grant(id, called + 3);
        id
    }

    /// Adds a check that the hold is valid, with this deadline.
    pub fn show(&mut self, id: OpId, asked: u64, until: Option<u64>) {
        self.op(id).shown.push(Shown {
            asked: at(asked),
            valid: until.is_some(),
            until: until.map(at),
        });
    }

    /// Adds a release, which this revision does within two milliseconds.
    pub fn release(&mut self, id: OpId, called: u64, revision: u64) {
        self.op(id).release = Some(at(called));
        self.remove(id, called, revision);
    }

    /// Adds a removal of the entry, which this revision does within two milliseconds.
    pub fn remove(&mut self, id: OpId, called: u64, revision: u64) {
        self.op(id).removals.push(Removal {
            called: at(called),
            answered: Some(at(called + 2)),
            did: true,
        });
        let session = self.entry(id).session;
        self.delete(id, revision, Cause::Request(session));
    }

    /// Adds the end of a session, which deletes its entry by this revision. The deletion is seen at
    /// this time.
    pub fn expire(&mut self, id: OpId, seen: u64, revision: u64) {
        self.delete(id, revision, Cause::SessionEnd);
        self.0.seen.push((revision, at(seen)));
    }

    pub fn delete(&mut self, id: OpId, revision: u64, cause: Cause) {
        self.entry(id).deleted = Some(Deletion {
            from: revision,
            to: revision,
            cause,
            decided: None,
        });
    }

    /// Adds an access to the resource.
    pub fn access(&mut self, id: OpId, when: u64, token: u64, admitted: bool) {
        self.0.accesses.push(Access {
            at: at(when),
            op: id,
            lock: "a".into(),
            token: Token(token),
            admitted,
        });
    }

    /// Adds a read of the key `k` under a hold.
    pub fn get(&mut self, id: OpId, value: Option<&str>) {
        let value = value.map(str::to_owned);
        self.data(id, DataRequest::Get, DataAnswer::Done(value));
    }

    /// Adds a change of the key `k` under a hold.
    pub fn put(&mut self, id: OpId, value: &str, answer: DataAnswer) {
        self.data(id, DataRequest::Put(value.to_owned()), answer);
    }

    pub fn data(&mut self, id: OpId, request: DataRequest, answer: DataAnswer) {
        let op = self.op(id);
        op.data.push(DataAccess {
            key: "k".into(),
            request,
            called: op.called,
            answer,
        });
    }

    /// Adds a raise to this token offset, which is answered two milliseconds later.
    pub fn raise(&mut self, id: OpId, called: u64, offset: u64) {
        self.0.raises.push(Raise {
            id,
            offset,
            called: at(called),
            raised: Some((offset, at(called + 2))),
        });
    }

    /// Adds this token offset to the tokens of an acquire and of its entry.
    pub fn add_offset(&mut self, id: OpId, offset: u64) {
        let entry = self.entry(id);
        let token = Token(entry.token.0 + offset);
        entry.token = token;
        let op = self.op(id);
        op.placed = op.placed.map(|(_, at)| (token, at));
        if let Some((_, at)) = op.grant() {
            op.outcome = Outcome::Granted(token, at);
        }
    }

    pub fn fault(&mut self, target: Target, from: u64, to: u64) {
        self.0.faults.push(Fault {
            from: at(from),
            to: at(to),
            target,
            what: "paused".into(),
        });
    }

    pub fn op(&mut self, id: OpId) -> &mut Op {
        let mut ops = self.0.ops.iter_mut();
        ops.find(|op| op.id == id).expect("it was called")
    }

    pub fn entry(&mut self, id: OpId) -> &mut Entry {
        let mut entries = self.0.entries.iter_mut();
        entries
            .find(|entry| entry.op == Some(id))
            .expect("it has one")
    }

    /// Returns the rules that are broken, each once, with the party that broke them.
    pub fn verdict(&self) -> Vec<(Rule, Blame)> {
        let mut broken: Vec<_> = check(&self.0)
            .into_iter()
            .map(|violation| {
                assert!(!violation.slice.is_empty(), "{violation}");
                (violation.rule, violation.blame)
            })
            .collect();
        broken.sort();
        broken.dedup();
        broken
    }

    /// Asserts that these rules are broken, all by us.
    pub fn breaks(&self, rules: &[Rule]) {
        let by_us: Vec<_> = rules.iter().map(|rule| (*rule, Blame::Ours)).collect();
        assert_eq!(self.verdict(), by_us, "{:#?}", check(&self.0));
    }
}
