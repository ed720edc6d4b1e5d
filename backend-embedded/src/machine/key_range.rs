//! The shape of a [`KeyRange`], and the keys in it.

use std::ops::Bound;

use bytes::Bytes;

use super::op::KeyRange;

/// The bounds of a search in an ordered map.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl KeyRange {
    /// Returns the range of all keys that start with `prefix`. The empty prefix means all keys.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        if start.is_empty() {
            return KeyRange::all();
        }
        // The first key past the prefix: the last byte that can be raised is raised, and the bytes
        // after it are cut.
        let end = start.iter().rposition(|&byte| byte != u8::MAX).map(|last| {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        });
        KeyRange::Span { start, end }
    }

    /// Returns the range of all keys.
    pub fn all() -> Self {
        // A key is never empty, so this is the first possible key.
        KeyRange::Span {
            start: Bytes::from_static(b"\0"),
            end: None,
        }
    }

    /// Returns whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Span { start, end } => {
                start <= key && end.as_ref().is_none_or(|end| key < end)
            }
        }
    }

    /// Returns whether every key that the other range could hold is in this one.
    pub fn contains_all(&self, other: &KeyRange) -> bool {
        match (self, other) {
            (_, KeyRange::One(key)) => self.contains(key),
            (KeyRange::One(_), KeyRange::Span { .. }) => false,
            (
                KeyRange::Span { start, end },
                KeyRange::Span {
                    start: other_start,
                    end: other_end,
                },
            ) => {
                let ends_within = match (end, other_end) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(end), Some(other_end)) => other_end <= end,
                };
                start <= other_start && ends_within
            }
        }
    }

    /// Returns the prefix, if the range is exactly all keys with that prefix.
    pub(crate) fn as_prefix(&self) -> Option<&Bytes> {
        let KeyRange::Span {
            start,
            end: Some(end),
        } = self
        else {
            return None;
        };
        let (&last, head) = end.split_last()?;
        let (kept, cut) = start.split_at_checked(end.len())?;
        let (&raised, kept) = kept.split_last()?;
        let is_prefix = kept == head
            && raised.checked_add(1) == Some(last)
            && cut.iter().all(|&byte| byte == u8::MAX);
        is_prefix.then_some(start)
    }

    /// Returns whether the range is all keys.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self, KeyRange::Span { start, end: None } if start.as_ref() <= b"\0".as_slice())
    }

    /// Returns the first key that the range could hold.
    pub(crate) fn first(&self) -> &Bytes {
        match self {
            KeyRange::One(key) => key,
            KeyRange::Span { start, .. } => start,
        }
    }

    /// Returns the bytes of the keys that name the range.
    pub(crate) fn size(&self) -> usize {
        match self {
            KeyRange::One(key) => key.len(),
            KeyRange::Span { start, end } => start.len() + end.as_ref().map_or(0, Bytes::len),
        }
    }

    /// Returns the bounds for a search in an ordered map; `None` if the range is empty or inverted,
    /// which such a search does not accept.
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        match self {
            KeyRange::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            KeyRange::Span { start, end: None } => Some((Bound::Included(start), Bound::Unbounded)),
            KeyRange::Span {
                start,
                end: Some(end),
            } => (start < end).then_some((Bound::Included(start), Bound::Excluded(end))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &'static [u8], end: &'static [u8]) -> KeyRange {
        KeyRange::Span {
            start: Bytes::from_static(start),
            end: Some(Bytes::from_static(end)),
        }
    }

    #[test]
    fn a_prefix_ends_where_its_last_raisable_byte_is_raised() {
        assert_eq!(KeyRange::prefix("a/"), span(b"a/", b"a0"));
        assert_eq!(
            KeyRange::prefix(&b"a\xff\xff"[..]),
            span(b"a\xff\xff", b"b")
        );
        let endless = KeyRange::Span {
            start: Bytes::from_static(b"\xff"),
            end: None,
        };
        assert_eq!(KeyRange::prefix(&b"\xff"[..]), endless);
        assert!(KeyRange::prefix("").is_all());
    }

    #[test]
    fn a_prefix_is_recognised_and_nothing_else_is() {
        for prefix in [&b"a/"[..], b"a", b"a\xff", b"a/\xff\xff"] {
            let range = KeyRange::prefix(prefix);
            assert_eq!(range.as_prefix().map(AsRef::as_ref), Some(prefix));
        }
        for other in [
            span(b"a", b"c"),
            span(b"ab", b"b"),
            span(b"a", b"bb"),
            span(b"a", b""),
            span(b"", b"a"),
            KeyRange::One(Bytes::from_static(b"a")),
            KeyRange::all(),
        ] {
            assert_eq!(other.as_prefix(), None, "{other:?}");
        }
    }

    #[test]
    fn containment() {
        assert!(KeyRange::prefix("a/").contains(b"a/"));
        assert!(KeyRange::prefix("a/").contains(b"a/\xff\xff"));
        assert!(!KeyRange::prefix("a/").contains(b"a0"));
        assert!(!KeyRange::prefix("a/").contains(b"a"));
        assert!(KeyRange::all().contains(b"\0"));
        assert!(!span(b"b", b"a").contains(b"a"));
        assert_eq!(span(b"b", b"a").bounds(), None);
    }
}
