//! Names of locks, and their encoding as one flat segment of a store's key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The longest segment of a name, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 255;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// The name of a lock.
///
/// A *native* name is UTF-8 in segments split by `/`: 1 to 255 bytes a segment, 1,024 in all; no
/// empty, `.` or `..` segment; no control characters. `a` and `a/b` are independent locks on every
/// backend.
///
/// A *raw* name is used verbatim as the etcd prefix or ZooKeeper path, to join a queue that other
/// clients already use: 1 to 1,024 bytes, no control characters. Raw names nest as those of the
/// other clients do: on etcd the raw lock `a` shares one queue with everything under `a/`.
///
/// # Examples
/// ```
/// use lock_core::{LockName, NameRule};
///
/// let name = LockName::new("jobs/nightly")?;
/// assert_eq!(name.as_str(), "jobs/nightly");
/// let error = LockName::new("jobs//nightly").unwrap_err();
/// assert_eq!((error.rule(), error.offset()), (NameRule::EmptySegment, 5));
/// # Ok::<(), lock_core::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockName {
    text: Arc<str>,
    raw: bool,
}

/// Says why a text is not the name of a lock. The offset is in bytes from the start of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lock name {:?} is not valid: {rule} (at byte {offset}); {}",
    shorten(.name), self.remedy()
)]
pub struct NameError {
    name: String,
    rule: NameRule,
    offset: usize,
}

/// A rule of names that a text breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameRule {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text is longer than [`MAX_NAME_BYTES`].
    #[error("it is longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// A segment is longer than [`MAX_SEGMENT_BYTES`].
    #[error("a segment is longer than {MAX_SEGMENT_BYTES} bytes")]
    SegmentTooLong,
    /// There is a slash at the start or the end, or two in a row.
    #[error("a segment is empty")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("a segment is '.' or '..'")]
    DotSegment,
    /// The text has a control character, such as a line break or NUL.
    #[error("it has a control character")]
    ControlCharacter,
}

impl NameError {
    /// Returns the rule that the text breaks.
    pub fn rule(&self) -> NameRule {
        self.rule
    }

    /// Returns where the text breaks the rule, in bytes from its start.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn remedy(&self) -> &'static str {
        match self.rule {
            NameRule::Empty => "give at least one character",
            NameRule::TooLong | NameRule::SegmentTooLong => "shorten it, or use a hash of it",
            NameRule::EmptySegment => "write single slashes, and only between segments",
            NameRule::DotSegment => "names are not paths: leave '.' and '..' out",
            NameRule::ControlCharacter => "use printable characters",
        }
    }
}

/// Returns the first 64 characters: a hostile name must not flood a log.
pub(crate) fn shorten(name: &str) -> String {
    const SHOWN: usize = 64;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

impl LockName {
    /// Checks a text against the rules of native names.
    ///
    /// # Errors
    /// [`NameError`] names the rule that the text breaks, and the place.
    pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
        let text = text.as_ref();
        check_whole(text)?;
        let mut offset = 0;
        for segment in text.split('/') {
            let rule = match segment {
                "" => Some(NameRule::EmptySegment),
                "." | ".." => Some(NameRule::DotSegment),
                s if s.len() > MAX_SEGMENT_BYTES => Some(NameRule::SegmentTooLong),
                _ => None,
            };
            if let Some(rule) = rule {
                return Err(name_error(text, rule, offset));
            }
            offset += segment.len() + 1;
        }
        Ok(LockName {
            text: text.into(),
            raw: false,
        })
    }

    /// Returns a raw name, which the backend uses verbatim.
    ///
    /// # Errors
    /// [`NameError`] names the rule that the text breaks, and the place.
    pub fn raw(text: impl AsRef<str>) -> Result<Self, NameError> {
        let text = text.as_ref();
        check_whole(text)?;
        Ok(LockName {
            text: text.into(),
            raw: true,
        })
    }

    /// Returns the name as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the backend uses the name verbatim.
    pub fn is_raw(&self) -> bool {
        self.raw
    }
}

fn check_whole(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(name_error(text, NameRule::Empty, 0));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(name_error(text, NameRule::TooLong, MAX_NAME_BYTES));
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((offset, _)) => Err(name_error(text, NameRule::ControlCharacter, offset)),
        None => Ok(()),
    }
}

fn name_error(text: &str, rule: NameRule, offset: usize) -> NameError {
    NameError {
        name: text.to_owned(),
        rule,
        offset,
    }
}

/// The characters that an encoded name escapes: all but these four, letters and digits. Since `/`
/// and `%` are among them, no lock's keys lie under another's, and any store accepts the result.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Encodes a native name, or the beginning of one, as one flat segment of a key. Different names
/// have different encodings, and the encoding of a beginning is the beginning of the encoding.
///
/// # Examples
/// ```
/// use lock_core::name::{decode, encode};
///
/// assert_eq!(encode("a/b"), "a%2Fb");
/// assert_eq!(decode("a%2Fb").as_ref().map(|name| name.as_str()), Some("a/b"));
/// assert_eq!(decode("a/b"), None);
/// ```
pub fn encode(text: &str) -> String {
    // Each acquire makes keys of names: `to_string` costs several times as much.
    let mut encoded = String::with_capacity(text.len());
    encoded.extend(utf8_percent_encode(text, ESCAPED));
    encoded
}

/// Returns the native name that [`encode`] made this text of, or `None` if it did not.
pub fn decode(encoded: &str) -> Option<LockName> {
    let text = percent_decode_str(encoded).decode_utf8().ok()?;
    let name = LockName::new(&text).ok()?;
    (encode(&text) == encoded).then_some(name)
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.raw { "raw " } else { "" };
        write!(f, "{kind}{:?}", self.text)
    }
}

impl FromStr for LockName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        LockName::new(s)
    }
}

impl TryFrom<&str> for LockName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        LockName::new(text)
    }
}

impl TryFrom<String> for LockName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        LockName::new(text)
    }
}

impl TryFrom<&LockName> for LockName {
    type Error = NameError;

    fn try_from(name: &LockName) -> Result<Self, NameError> {
        Ok(name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> Option<(NameRule, usize)> {
        LockName::new(text).err().map(|e| (e.rule(), e.offset()))
    }

    #[test]
    fn each_rule_is_named_with_its_place() {
        assert_eq!(rule(""), Some((NameRule::Empty, 0)));
        assert_eq!(rule("/a"), Some((NameRule::EmptySegment, 0)));
        assert_eq!(rule("a//b"), Some((NameRule::EmptySegment, 2)));
        assert_eq!(rule("a/"), Some((NameRule::EmptySegment, 2)));
        assert_eq!(rule("a/../b"), Some((NameRule::DotSegment, 2)));
        assert_eq!(rule("."), Some((NameRule::DotSegment, 0)));
        assert_eq!(rule("a\nb"), Some((NameRule::ControlCharacter, 1)));
        assert_eq!(rule("a\u{85}"), Some((NameRule::ControlCharacter, 1)));
        assert_eq!(
            rule(&format!("ab/{}", "x".repeat(256))),
            Some((NameRule::SegmentTooLong, 3))
        );
        assert_eq!(rule(&format!("ab/{}", "x".repeat(255))), None);
        let segment = "x".repeat(255);
        let longest = [segment.as_str(); 4].join("/") + "/";
        assert_eq!(longest.len(), 1024);
        assert_eq!(rule(&longest[..1023]), None);
        assert_eq!(rule(&(longest + "y")), Some((NameRule::TooLong, 1024)));
        assert_eq!(rule("zoo keeper/%2F/über/..."), None);
    }

    #[test]
    fn the_message_names_input_rule_place_and_remedy() {
        let error = LockName::new("a/../b").expect_err("a dot segment");
        assert_eq!(
            error.to_string(),
            "the lock name \"a/../b\" is not valid: a segment is '.' or '..' (at byte 2); \
             names are not paths: leave '.' and '..' out"
        );
        let flood = LockName::new("x".repeat(100_000))
            .expect_err("too long")
            .to_string();
        assert!(flood.len() < 250, "{flood}");
    }

    #[test]
    fn raw_names_are_verbatim_but_bounded() {
        assert_eq!(
            LockName::raw("/a//b/").expect("verbatim").as_str(),
            "/a//b/"
        );
        assert!(LockName::raw("").is_err());
        assert!(LockName::raw("a\0").is_err());
        assert_ne!(
            LockName::raw("a").expect("raw"),
            LockName::new("a").expect("native")
        );
    }

    #[test]
    fn only_texts_of_encode_are_decoded() {
        assert_eq!(encode("a/b%ü"), "a%2Fb%25%C3%BC");
        assert!(decode("a/b").is_none());
        assert!(decode("a%2fb").is_none(), "lower case escapes are not ours");
        assert!(decode("%FF").is_none());
    }

    proptest! {
        #[test]
        fn encoding_is_injective_flat_and_keeps_prefixes(a in "\\PC{1,40}", b in "\\PC{0,20}") {
            let encoded = encode(&a);
            prop_assert!(!encoded.contains('/'));
            let longer = encode(&format!("{a}{b}"));
            prop_assert!(longer.starts_with(&encoded));
            if let Ok(name) = LockName::new(&a) {
                prop_assert_eq!(decode(&encoded), Some(name));
            }
        }
    }
}
