//! Handoffs in one process: the real record of the order in a queue, with every order of the store's
//! and the process's own steps around it.
//!
//! The contenders of the process come, wait, hold and leave; entries of other processes come and go;
//! an administrator evicts; acquires are cancelled; requests and replies are lost. A contender's steps
//! are those of `SessionHandoff` and `HandoffSession` in lock-core, cut wherever another step can come
//! between. All entries are exclusive.

mod steps;

use std::hash::{DefaultHasher, Hash};

use lock_core::models::Order;
use lock_core::{EntryId, Incarnation, LockName};

use crate::explorer::{Model, Step};

/// The bounds of an exploration.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub contenders: u8,
    /// How often the contenders come, together: one whose last entry is gone may come again.
    pub acquires: u8,
    /// Entries of other processes.
    pub foreign: u8,
    pub evictions: u8,
    pub cancels: u8,
    /// Requests and replies that are lost.
    pub losses: u8,
}

/// How a store names the entries in its replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// By key and incarnation; a contender's key is used again, as on etcd.
    Revisions,
    /// By a path that is never used again, without an incarnation, as on ZooKeeper.
    Paths,
}

/// A bug in the handoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    GuessesAreTrusted,
    GuessesAreRecordedAsSeen,
    PresenceIsNotRead,
    AnyEntryHandsOff,
    NothingIsForgotten,
}

impl Mutant {
    pub const ALL: [Mutant; 5] = [
        Mutant::GuessesAreTrusted,
        Mutant::GuessesAreRecordedAsSeen,
        Mutant::PresenceIsNotRead,
        Mutant::AnyEntryHandsOff,
        Mutant::NothingIsForgotten,
    ];

    pub fn describe(self) -> &'static str {
        match self {
            Mutant::GuessesAreTrusted => {
                "a waiter that only assumes what stands ahead is handed the lock"
            }
            Mutant::GuessesAreRecordedAsSeen => "an assumption is recorded as if it had been read",
            Mutant::PresenceIsNotRead => "a removal does not read whether the waiters exist",
            Mutant::AnyEntryHandsOff => "an entry that does not stand first hands off",
            Mutant::NothingIsForgotten => "what is known of a contender outlives its acquire",
        }
    }
}

pub struct Handoff {
    size: Size,
    store: Store,
    mutant: Option<Mutant>,
    queue: LockName,
}

/// An entry: its number in the order of arrival, and the contender that made it; none for an entry of
/// another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    token: u8,
    maker: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Contender {
    Idle,
    /// The enqueue is under way. It reads this many entries; zero means that it may assume.
    Sent {
        limit: u8,
    },
    /// The entry is made and the reply is under way, with the entries that were read.
    Made {
        own: Entry,
        limit: u8,
        read: Vec<Entry>,
    },
    /// The request or its reply was lost. The next attempt finds the entry or makes it.
    Again {
        own: Option<Entry>,
    },
    /// The reply to that attempt is under way.
    FoundAgain {
        own: Entry,
        present: bool,
        near: Option<Entry>,
    },
    Waits {
        own: Entry,
        on: Entry,
    },
    Looks {
        own: Entry,
    },
    Looked {
        own: Entry,
        present: bool,
        near: Option<Entry>,
    },
    Holds {
        own: Entry,
    },
    /// The removal is under way, and reads whether these waiters' entries exist.
    Leaves {
        own: Entry,
        waiters: Vec<Entry>,
    },
    /// The entry is removed and the reply is under way, with the waiters that exist.
    Left {
        own: Entry,
        there: Vec<Entry>,
    },
}

#[derive(Debug, Clone, Hash)]
pub struct State {
    /// The store's queue, in the order of arrival.
    queue: Vec<Entry>,
    last_token: u8,
    contenders: Vec<Contender>,
    order: Order,
    /// What may still happen.
    left: Left,
}

#[derive(Debug, Clone, Hash)]
struct Left {
    acquires: u8,
    foreign: u8,
    evictions: u8,
    cancels: u8,
    losses: u8,
}

impl State {
    fn has(&self, entry: Entry) -> bool {
        self.queue.contains(&entry)
    }

    /// Returns the nearest entries ahead of this one, nearest first.
    fn ahead(&self, of: Entry, limit: u8) -> Vec<Entry> {
        let ahead = self.queue.iter().rev().filter(|e| e.token < of.token);
        ahead.take(limit.into()).copied().collect()
    }

    fn nearest(&self, of: Entry) -> Option<Entry> {
        self.ahead(of, 1).first().copied()
    }

    fn make(&mut self, maker: Option<u8>) -> Entry {
        self.last_token += 1;
        let entry = Entry {
            token: self.last_token,
            maker,
        };
        self.queue.push(entry);
        entry
    }

    fn remove(&mut self, entry: Entry) {
        self.queue.retain(|other| *other != entry);
    }

    fn is_over(&self) -> bool {
        self.contenders.iter().all(|c| *c == Contender::Idle)
    }
}

impl Handoff {
    pub fn new(size: Size, store: Store, mutant: Option<Mutant>) -> Self {
        Handoff {
            size,
            store,
            mutant,
            queue: LockName::new("q").expect("a valid name"),
        }
    }

    fn is_mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Returns the name of an entry that this process made.
    fn name_own(&self, entry: Entry) -> EntryId {
        let key = match (self.store, entry.maker) {
            (Store::Revisions, Some(maker)) => [b'w', maker],
            (Store::Revisions, None) | (Store::Paths, _) => [b'e', entry.token],
        };
        EntryId {
            key: key.as_slice().into(),
            incarnation: Incarnation::new(entry.token.into()),
        }
    }

    /// Returns the name of an entry in a reply of the store.
    fn name_listed(&self, entry: Entry) -> EntryId {
        let id = self.name_own(entry);
        match self.store {
            Store::Revisions => id,
            Store::Paths => EntryId {
                incarnation: None,
                ..id
            },
        }
    }
}

impl Model for Handoff {
    type State = State;
    type Action = steps::Action;

    const MILESTONES: &'static [&'static str] = &[
        "a contender waits for an entry that it only assumes",
        "a later contender's read confirms an assumption",
        "a lock is handed off",
        "a waiter's entry is gone when the lock is handed off",
    ];

    fn initial(&self) -> State {
        let size = self.size;
        State {
            queue: Vec::new(),
            last_token: 0,
            contenders: vec![Contender::Idle; size.contenders.into()],
            order: Order::default(),
            left: Left {
                acquires: size.acquires,
                foreign: size.foreign,
                evictions: size.evictions,
                cancels: size.cancels,
                losses: size.losses,
            },
        }
    }

    fn next(&self, state: &State) -> Vec<Step<Self>> {
        steps::next(self, state)
    }

    fn check(&self, _: &State, after: &State) -> Result<(), String> {
        for contender in &after.contenders {
            if let Contender::Holds { own } = contender
                && after.has(*own)
                && let Some(near) = after.nearest(*own)
            {
                return Err(format!(
                    "{} holds and {} stands ahead",
                    own.token, near.token
                ));
            }
        }
        match after.is_over() && !after.order.is_empty() {
            true => Err("nobody is left, and the order still has a record".to_owned()),
            false => Ok(()),
        }
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        match state.is_over() {
            true => Ok(()),
            false => Err("a contender waits, and nothing wakes it".to_owned()),
        }
    }

    fn hash(&self, state: &State, hasher: &mut DefaultHasher) {
        state.hash(hasher);
    }

    fn find_milestones(&self, before: &State, after: &State) -> u32 {
        let mut found = 0;
        for (was, is) in before.contenders.iter().zip(&after.contenders) {
            let milestone = match (was, is) {
                (Contender::Made { limit: 0, .. }, Contender::Waits { .. }) => 0,
                (Contender::Waits { own, on }, Contender::Waits { .. })
                    if was == is
                        && !self.is_confirmed(before, *own, *on)
                        && self.is_confirmed(after, *own, *on) =>
                {
                    1
                }
                (Contender::Left { .. }, _) => continue,
                (_, Contender::Left { there, .. }) if !there.is_empty() => 2,
                (Contender::Leaves { waiters, .. }, Contender::Left { .. })
                    if !waiters.is_empty() =>
                {
                    3
                }
                _ => continue,
            };
            found |= 1 << milestone;
        }
        found
    }
}
