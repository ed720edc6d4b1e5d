//! The leases: their deadlines, and the keys attached to them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::op::LeaseId;

/// The shortest and the longest time after which a lease without keys counts as abandoned. In
/// between, it is half of the time to live: whoever means to keep a lease has renewed it by then.
const MIN_IDLE: Duration = Duration::from_secs(60);
const MAX_IDLE: Duration = Duration::from_secs(3600);

/// The shortest time between two searches for abandoned leases. A search looks at all leases.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    /// On the scale of the table, see [`LeaseTable::extension`].
    deadline: Duration,
    keys: BTreeSet<Bytes>,
    /// The subject that it was granted to, if that is known.
    owner: Option<Arc<str>>,
}

/// All leases by id and by deadline. Times count from the caller's epoch.
#[derive(Debug, Default)]
pub(super) struct LeaseTable {
    leases: HashMap<LeaseId, Lease>,
    deadlines: BTreeSet<(Duration, LeaseId)>,
    /// The sum of all extensions. Deadlines are stored without it, so that extending all leases is
    /// one addition, however many there are.
    extension: Duration,
    /// How many leases each subject has.
    owned: HashMap<Arc<str>, usize>,
    /// When the next search for abandoned leases may begin.
    next_search: Duration,
}

impl LeaseTable {
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Returns the ids, the first to expire first.
    pub(super) fn ids(&self) -> Vec<LeaseId> {
        self.deadlines.iter().map(|&(_, id)| id).collect()
    }

    /// Returns the ids with the times to live, ascending.
    #[cfg(feature = "server")]
    pub(super) fn with_ttl(&self) -> Vec<(LeaseId, Duration)> {
        let all = self.leases.iter().map(|(&id, lease)| (id, lease.ttl));
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        all
    }

    /// Adds a lease that does not exist yet.
    pub(super) fn grant(&mut self, now: Duration, id: LeaseId, ttl: Duration) {
        let deadline = self.deadline(now, ttl);
        let lease = Lease {
            ttl,
            deadline,
            keys: BTreeSet::new(),
            owner: None,
        };
        self.leases.insert(id, lease);
        self.deadlines.insert((deadline, id));
    }

    /// Moves the deadline to a full time to live from now, and returns that time.
    pub(super) fn renew(&mut self, now: Duration, id: LeaseId) -> Option<Duration> {
        let ttl = self.leases.get(&id)?.ttl;
        let deadline = self.deadline(now, ttl);
        self.set_deadline(id, deadline);
        Some(ttl)
    }

    /// Removes a lease, and returns its keys, ascending.
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<BTreeSet<Bytes>> {
        let lease = self.leases.remove(&id)?;
        self.deadlines.remove(&(lease.deadline, id));
        if let Some(owner) = &lease.owner {
            self.disown(owner);
        }
        Some(lease.keys)
    }

    pub(super) fn attach(&mut self, id: LeaseId, key: Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    pub(super) fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Returns the time to live and the keys, ascending.
    pub(super) fn get(&self, id: LeaseId) -> Option<(Duration, &BTreeSet<Bytes>)> {
        self.leases.get(&id).map(|lease| (lease.ttl, &lease.keys))
    }

    /// Returns the owner, if it is known, and the keys, ascending.
    pub(super) fn get_use(&self, id: LeaseId) -> Option<(Option<&str>, &BTreeSet<Bytes>)> {
        let lease = self.leases.get(&id)?;
        Some((lease.owner.as_deref(), &lease.keys))
    }

    pub(super) fn set_owner(&mut self, id: LeaseId, owner: &Arc<str>) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let former = lease.owner.replace(Arc::clone(owner));
        *self.owned.entry(Arc::clone(owner)).or_default() += 1;
        if let Some(former) = former {
            self.disown(&former);
        }
    }

    /// Returns how many leases a subject has.
    pub(super) fn count_of(&self, owner: &str) -> usize {
        self.owned.get(owner).copied().unwrap_or_default()
    }

    fn disown(&mut self, owner: &Arc<str>) {
        if let Some(count) = self.owned.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.owned.remove(owner);
            }
        }
    }

    /// Returns the leases that nobody seems to want any more: they have no keys, and were not
    /// renewed for a long time. They are ascending. Returns none if the last search was just now.
    pub(super) fn find_abandoned(&mut self, now: Duration) -> Vec<LeaseId> {
        if now < self.next_search {
            return Vec::new();
        }
        self.next_search = now + SEARCH_INTERVAL;
        let is_abandoned = |lease: &Lease| {
            let left = (lease.deadline + self.extension).saturating_sub(now);
            let idle = lease.ttl.saturating_sub(left);
            lease.keys.is_empty() && idle >= (lease.ttl / 2).clamp(MIN_IDLE, MAX_IDLE)
        };
        let found = self.leases.iter().filter(|(_, lease)| is_abandoned(lease));
        let mut ids: Vec<_> = found.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns when the lease expires unless it is renewed.
    pub(super) fn expires_at(&self, id: LeaseId) -> Option<Duration> {
        let lease = self.leases.get(&id)?;
        Some(lease.deadline + self.extension)
    }

    /// Returns the lease that expires first, and when.
    pub(super) fn first_to_expire(&self) -> Option<(Duration, LeaseId)> {
        let &(deadline, id) = self.deadlines.first()?;
        Some((deadline + self.extension, id))
    }

    /// Moves every deadline later by `delay`.
    pub(super) fn extend_all(&mut self, delay: Duration) {
        self.extension += delay;
    }

    /// Takes over from `old` the deadlines and the owners of the leases that exist in both.
    pub(super) fn adopt_volatile(&mut self, old: &LeaseTable) {
        for (&id, lease) in &old.leases {
            if self.contains(id) {
                if let Some(owner) = &lease.owner {
                    self.set_owner(id, owner);
                }
                let expires_at = lease.deadline + old.extension;
                self.set_deadline(id, expires_at.saturating_sub(self.extension));
            }
        }
    }

    fn deadline(&self, now: Duration, ttl: Duration) -> Duration {
        // The extensions are times that have passed, so their sum is never more than `now`.
        (now + ttl).saturating_sub(self.extension)
    }

    fn set_deadline(&mut self, id: LeaseId, deadline: Duration) {
        if let Some(lease) = self.leases.get_mut(&id) {
            self.deadlines.remove(&(lease.deadline, id));
            lease.deadline = deadline;
            self.deadlines.insert((deadline, id));
        }
    }
}
