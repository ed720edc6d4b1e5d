//! Reads of a range, with etcd's limits, sorts and revision bounds.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use super::keys::{Directory, KeySpace};
use super::op::{KeyRange, KeyValue, Range, RangeResult, Revision, SortOrder, SortTarget};
use super::parts::PartKeys;
use super::past::{Past, States};

/// Reads the state at the revision of the request, which is known.
pub(super) fn read(keys: &KeySpace, past: &Past, range: &Range) -> RangeResult {
    let changed = match range.revision {
        0 => States::new(),
        revision => past.states_at(revision, &range.keys),
    };
    match changed.is_empty() {
        true => read_current(keys, range),
        false => read_current(&with_states(keys, range, changed), range),
    }
}

/// Returns the keys of a range, some of them in another state.
fn with_states(keys: &KeySpace, range: &Range, mut changed: States) -> KeySpace {
    let mut then = KeySpace::default();
    for kv in keys.iter(&range.keys) {
        let state = changed.remove(&kv.key);
        if let Some(kv) = state.unwrap_or_else(|| Some(Arc::clone(kv))) {
            then.insert(kv);
        }
    }
    for kv in changed.into_values().flatten() {
        then.insert(kv);
    }
    then
}

/// Reads the current state. The count is that of the whole range. The revision bounds apply before
/// the sort, and the limit after it. There is one exception, as in etcd: a sort without an order,
/// by a property other than the key, applies to the first keys only, one more than the limit.
pub(super) fn read_current(keys: &KeySpace, range: &Range) -> RangeResult {
    if range.count_only {
        return RangeResult {
            count: keys.count(&range.keys) as u64,
            ..RangeResult::default()
        };
    }
    let max_count = max_count(range);
    let (count, mut found) = match read_by_creation(keys, range, max_count) {
        Some(read) => read,
        None => (keys.count(&range.keys), scan(keys, range, max_count)),
    };
    let more = found.len() == max_count;
    if more {
        found.truncate(range.limit);
    }
    let kvs = found
        .into_iter()
        .map(|kv| match range.keys_only && !kv.value.is_empty() {
            true => Arc::new(without_value(kv)),
            false => Arc::clone(kv),
        })
        .collect();
    RangeResult {
        kvs,
        more,
        count: count as u64,
    }
}

/// Returns how many keys to look for: one more than the limit, to know whether there are more.
fn max_count(range: &Range) -> usize {
    match range.limit {
        0 => usize::MAX,
        limit => limit.saturating_add(1),
    }
}

/// Returns how many keys a read returns, at most, on any store.
pub(super) fn returned_at_most(range: &Range) -> usize {
    match &range.keys {
        _ if range.count_only => 0,
        KeyRange::One(_) => 1,
        KeyRange::Span { .. } => max_count(range),
    }
}

/// What a read costs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// How many keys, or directories of keys, it looks at, at most.
    pub(super) looked_at: usize,
    /// How many keys it returns, at most.
    pub(super) returned: usize,
}

/// Returns what a read would cost, and looks for that at no more than about `limit` keys.
pub(super) fn extent(keys: &KeySpace, range: &Range, limit: usize) -> Extent {
    let limit = limit.saturating_add(1);
    let (mut part_count, mut looked_at, mut total) = (0_usize, 0, 0);
    let parts = keys.parts(&range.keys, limit);
    let has_parts = parts.is_some();
    match parts {
        Some(parts) => {
            for part in parts.take(limit) {
                part_count += 1;
                looked_at += part.looked_at;
                total += part.len;
            }
        }
        None => {
            total = keys.iter(&range.keys).take(limit).count();
            looked_at = total;
        }
    }
    if range.count_only {
        return Extent {
            looked_at,
            returned: 0,
        };
    }
    let max_count = max_count(range);
    let is_pruned = range.min_mod_revision != 0 || range.max_mod_revision != 0;
    let read = match has_parts && is_by_creation(range) {
        true if !is_pruned => part_count.saturating_mul(max_count).min(total),
        false if is_as_stored(range) && !is_bounded(range) => max_count.min(total),
        true | false => total,
    };
    Extent {
        looked_at: looked_at.saturating_add(read),
        returned: max_count.min(total),
    }
}

/// Returns whether a read wants the keys in the order in which they are kept.
fn is_as_stored(range: &Range) -> bool {
    match range.sort_order {
        SortOrder::None => true,
        SortOrder::Ascend => range.sort_target == SortTarget::Key,
        SortOrder::Descend => false,
    }
}

/// Returns whether a read wants the keys in the order of their create revisions, or the reverse.
fn is_by_creation(range: &Range) -> bool {
    range.sort_target == SortTarget::Create && range.sort_order != SortOrder::None
}

/// Returns whether a read wants only keys of certain revisions.
fn is_bounded(range: &Range) -> bool {
    range.min_mod_revision != 0
        || range.max_mod_revision != 0
        || range.min_create_revision != 0
        || range.max_create_revision != 0
}

/// Counts the keys of the range, and reads the first `max_count` of those asked for, by the index
/// of create revisions; `None` if the index does not serve this range.
fn read_by_creation<'a>(
    keys: &'a KeySpace,
    range: &Range,
    max_count: usize,
) -> Option<(usize, Vec<&'a Arc<KeyValue>>)> {
    if !is_by_creation(range) {
        return None;
    }
    let (mut count, mut found) = (0, Vec::new());
    for part in keys.parts(&range.keys, usize::MAX)? {
        count += part.len;
        match part.keys {
            // The first keys of all are among the first keys of each part.
            PartKeys::In {
                directory,
                is_whole,
            } => found.extend(
                walk(directory, range)
                    .filter(|key| is_whole || range.keys.contains(key))
                    .filter_map(|key| keys.get(key))
                    .filter(|kv| is_within_bounds(kv, range))
                    .take(max_count),
            ),
            PartKeys::These(kvs) => {
                found.extend(kvs.into_iter().filter(|kv| is_within_bounds(kv, range)));
            }
        }
    }
    sort(&mut found, range);
    found.truncate(max_count);
    Some((count, found))
}

/// Returns the keys of a directory in the requested order, within the bounds on the create
/// revision.
fn walk<'a>(directory: &'a Directory, range: &Range) -> Box<dyn Iterator<Item = &'a Bytes> + 'a> {
    let (min, max) = (range.min_create_revision, range.max_create_revision);
    let from = (min, Bytes::new());
    let within = match max {
        0 | Revision::MAX => directory.range(from..),
        _ if max < min => return Box::new(std::iter::empty()),
        _ => directory.range(from..(max + 1, Bytes::new())),
    };
    let within = within.map(|(_, key)| key);
    match range.sort_order {
        SortOrder::Descend => Box::new(within.rev()),
        SortOrder::Ascend | SortOrder::None => Box::new(within),
    }
}

/// Reads the first `max_count` keys by a scan of the range, or of as much of it as necessary.
fn scan<'a>(keys: &'a KeySpace, range: &Range, max_count: usize) -> Vec<&'a Arc<KeyValue>> {
    let found = keys.iter(&range.keys);
    let mut found: Vec<_> = if is_as_stored(range) && !is_bounded(range) {
        found.take(max_count).collect()
    } else {
        found.filter(|kv| is_within_bounds(kv, range)).collect()
    };
    sort(&mut found, range);
    found.truncate(max_count);
    found
}

fn is_within_bounds(kv: &KeyValue, range: &Range) -> bool {
    let within = |revision, min, max| min <= revision && (max == 0 || revision <= max);
    within(
        kv.mod_revision,
        range.min_mod_revision,
        range.max_mod_revision,
    ) && within(
        kv.create_revision,
        range.min_create_revision,
        range.max_create_revision,
    )
}

/// Sorts the keys. Equal targets are ordered by key, so that the order does not depend on how the
/// keys were found.
fn sort(found: &mut [&Arc<KeyValue>], range: &Range) {
    let by_target = |a: &KeyValue, b: &KeyValue| -> Ordering {
        match range.sort_target {
            SortTarget::Key => Ordering::Equal,
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
        .then_with(|| a.key.cmp(&b.key))
    };
    match range.sort_order {
        SortOrder::None if range.sort_target == SortTarget::Key => {}
        SortOrder::None | SortOrder::Ascend => found.sort_unstable_by(|a, b| by_target(a, b)),
        SortOrder::Descend => found.sort_unstable_by(|a, b| by_target(b, a)),
    }
}

fn without_value(kv: &KeyValue) -> KeyValue {
    KeyValue {
        value: Bytes::new(),
        ..kv.clone()
    }
}
