//! The keys of a range, directory by directory. So neither the newest keys of a range nor their
//! number cost a scan of it.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::keys::{Directory, KeySpace, directory_length};
use super::op::{KeyRange, KeyValue};

/// The most directories, one in the other, that are looked for above the start of a range.
const MAX_DEPTH: usize = 32;

/// The keys of a range that are in one directory.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) keys: PartKeys<'a>,
    /// How many keys these are.
    pub(super) len: usize,
    /// About how many keys, or directories of keys, were looked at to find them.
    pub(super) looked_at: usize,
}

/// Where the keys of a part are.
#[derive(Debug)]
pub(super) enum PartKeys<'a> {
    /// In this directory. If that is not whole, it also has keys outside of the range, but few.
    In {
        directory: &'a Directory,
        is_whole: bool,
    },
    /// These, of a directory with many others.
    These(Vec<&'a Arc<KeyValue>>),
}

impl KeySpace {
    /// Returns the parts of a range. Returns `None` for a single key, for a range without keys, and
    /// for one that starts too many directories deep.
    ///
    /// A range cuts only directories above its start and above its end. It holds each other one
    /// wholly, or not at all. The part of a cut directory costs a look at about as many keys as the
    /// directory has in the range, or as it has outside of it, whichever are fewer. The look ends
    /// at about `limit` keys, and leaves an incomplete part.
    pub(super) fn parts<'a>(
        &'a self,
        range: &KeyRange,
        limit: usize,
    ) -> Option<impl Iterator<Item = Part<'a>>> {
        let KeyRange::Span { start, end } = range else {
            return None;
        };
        let span = Span {
            start,
            end: end.as_deref(),
        };
        let below = self.directories.range::<[u8], _>(range.bounds()?);
        let above = self.directories_above(span)?.into_iter();
        let cut = move |name, directory| self.cut(name, directory, span, limit);
        let above = above.map(move |(name, directory)| cut(name, directory));
        let below = below.map(move |(name, directory)| {
            if span.end.is_some_and(|end| end.starts_with(name)) {
                return cut(name, directory);
            }
            Part {
                keys: PartKeys::In {
                    directory,
                    is_whole: true,
                },
                len: directory.len(),
                looked_at: 1,
            }
        });
        Some(above.chain(below))
    }

    /// Returns the directories that begin before the span and may have keys in it; `None` if there
    /// could be too many to look for.
    fn directories_above(&self, span: Span<'_>) -> Option<Vec<(&Bytes, &Directory)>> {
        let mut found = Vec::new();
        let mut path = span.start;
        for _ in 0..MAX_DEPTH {
            let is_directory = path.ends_with(b"/");
            if path.is_empty() || is_directory && span.is_within(path) {
                return Some(found);
            }
            let inner = path.strip_suffix(b"/").unwrap_or(path);
            path = &path[..directory_length(inner)];
            found.extend(self.directories.get_key_value(path));
        }
        None
    }

    /// Returns the part of a span that is in this directory, of which it may hold only some keys.
    ///
    /// Two walks go along the keys in the span and those outside of it, in turn, until one of them
    /// ends. A directory below this one costs a step, too. If there are more of those than keys in
    /// this one, all of its keys are looked at.
    fn cut<'a>(
        &'a self,
        name: &[u8],
        directory: &'a Directory,
        span: Span<'_>,
        limit: usize,
    ) -> Part<'a> {
        let past = first_past(name);
        let past = past.as_deref();
        let Span { start, end } = span;
        let steps = |start, end| Steps::new(&self.keys, name.len(), Span { start, end });
        let mut inside = steps(start.max(name), earlier(end, past));
        let before = steps(name, Some(start));
        let after = end.map(|end| steps(end, past));
        let mut outside = before.chain(after.into_iter().flatten());
        let (mut found, mut left_out) = (Vec::new(), 0);
        let most = directory.len().min(limit);
        for round in 1..=most {
            let looked_at = 1 + round;
            match inside.next() {
                Some(step) => found.extend(step),
                None => {
                    return Part {
                        len: found.len(),
                        keys: PartKeys::These(found),
                        looked_at,
                    };
                }
            }
            match outside.next() {
                Some(step) => left_out += usize::from(step.is_some()),
                None => {
                    return Part {
                        keys: PartKeys::In {
                            directory,
                            is_whole: left_out == 0,
                        },
                        len: directory.len() - left_out,
                        looked_at,
                    };
                }
            }
        }
        let keys = directory.iter().take(limit).map(|(_, key)| key);
        let found: Vec<_> = keys
            .filter(|key| span.contains(key))
            .filter_map(|key| self.keys.get(key))
            .collect();
        Part {
            len: found.len(),
            keys: PartKeys::These(found),
            looked_at: 1 + 2 * most,
        }
    }
}

/// The keys from `start` up to, not including, `end`, or all that follow.
#[derive(Debug, Clone, Copy)]
struct Span<'a> {
    start: &'a [u8],
    end: Option<&'a [u8]>,
}

impl Span<'_> {
    fn contains(self, key: &[u8]) -> bool {
        self.start <= key && self.end.is_none_or(|end| key < end)
    }

    /// Returns whether all keys of this span, which begins at or after this directory, begin with
    /// the directory's name.
    fn is_within(self, directory: &[u8]) -> bool {
        let name = directory.strip_suffix(b"/").unwrap_or(directory);
        let rest = self.end.and_then(|end| end.strip_prefix(name));
        // In order of bytes, `0` follows `/`.
        rest.is_some_and(|rest| rest <= b"0".as_slice())
    }
}

/// A walk along the keys of one directory, ascending. The directories below it are skipped, each
/// with one step that finds nothing.
struct Steps<'a, 'b> {
    keys: &'a BTreeMap<Bytes, Arc<KeyValue>>,
    ahead: btree_map::Range<'a, Bytes, Arc<KeyValue>>,
    name_length: usize,
    end: Option<&'b [u8]>,
}

impl<'a, 'b> Steps<'a, 'b> {
    /// Creates a walk along a span in a directory whose name has this length.
    fn new(keys: &'a BTreeMap<Bytes, Arc<KeyValue>>, name_length: usize, span: Span<'b>) -> Self {
        let mut steps = Steps {
            keys,
            ahead: btree_map::Range::default(),
            name_length,
            end: span.end,
        };
        steps.go_to(span.start);
        steps
    }

    fn go_to(&mut self, key: &[u8]) {
        self.ahead = match self.end {
            Some(end) if end <= key => btree_map::Range::default(),
            end => {
                let end = end.map_or(Bound::Unbounded, Bound::Excluded);
                self.keys.range::<[u8], _>((Bound::Included(key), end))
            }
        };
    }
}

impl<'a> Iterator for Steps<'a, '_> {
    type Item = Option<&'a Arc<KeyValue>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, kv) = self.ahead.next()?;
        let rest = &key[self.name_length..];
        let Some(slash) = rest.iter().position(|&byte| byte == b'/') else {
            return Some(Some(kv));
        };
        if let Some(past) = first_past(&key[..=self.name_length + slash]) {
            self.go_to(&past);
        }
        Some(None)
    }
}

/// Returns the first possible key after all that begin with the name of this directory; `None` if
/// all keys do.
fn first_past(directory: &[u8]) -> Option<Vec<u8>> {
    let (_, head) = directory.split_last()?;
    // In order of bytes, `0` follows `/`.
    Some([head, b"0"].concat())
}

/// Returns the earlier of two ends; `None` is the end of all keys.
fn earlier<'a>(one: Option<&'a [u8]>, other: Option<&'a [u8]>) -> Option<&'a [u8]> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
