//! The file of rules: which subject may do what, below which keys.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use backend_kit::keyspace::Keyspace;
use bytes::Bytes;
use lock_core::LockName;
use serde::Deserialize;
use toml::Spanned;

use super::AccessError;
use super::file::{self, Readers, Version};
use super::subject::{Subject, SubjectName};
use crate::layout::to_key_range;
use crate::machine::op::KeyRange;

/// The most rules in a file.
const MAX_RULES: usize = 10_000;

/// What a rule lets a subject do with the keys below it. Each right includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read and watch.
    Read,
    /// Also write and delete, with leases of its own: those that it was granted, and those whose
    /// keys it may all write.
    Lock,
    /// Also maintain: over all keys, compact the store, read alarms, and end any lease.
    Admin,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Right::Read => "read",
            Right::Lock => "lock",
            Right::Admin => "admin",
        })
    }
}

/// One rule of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    line: usize,
    subject: SubjectName,
    prefix: String,
    keys: KeyRange,
    right: Right,
}

impl Rule {
    /// Returns the keys that the rule is about.
    pub(super) fn keys(&self) -> &KeyRange {
        &self.keys
    }

    /// Returns the line of the file on which the rule begins, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns whom the rule is for.
    pub fn subject(&self) -> &SubjectName {
        &self.subject
    }

    /// Returns what all keys of the rule begin with; empty for every key.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns what the rule allows.
    pub fn right(&self) -> Right {
        self.right
    }

    fn covers(&self, keys: &KeyRange) -> bool {
        self.prefix.is_empty() || self.keys.contains_all(keys)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule {
            line,
            subject,
            prefix,
            right,
            ..
        } = self;
        write!(f, "line {line}: {subject} may {right} ")?;
        match prefix.as_str() {
            "" => f.write_str("every key"),
            prefix => write!(f, "keys that begin with {prefix:?}"),
        }
    }
}

/// The rules of a file. Whatever none of them allows is denied.
///
/// # Examples
/// ```
/// use backend_embedded::server::access::{Right, Rules, Subject};
/// use backend_embedded::machine::op::KeyRange;
///
/// let rules = Rules::parse(
///     r#"
///     [[rule]]
///     subject = "user:alice"
///     namespace = "team-a"
///     right = "lock"
///     "#,
/// )?;
/// let alice = Subject::new(vec!["user:alice".parse()?]);
/// let own = rules.find(&alice, Right::Lock, &KeyRange::prefix("team-a/jobs/"));
/// assert_eq!(own.map(|rule| rule.line()), Some(2));
/// assert!(rules.find(&alice, Right::Read, &KeyRange::prefix("team-b/")).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Rules {
    by_subject: BTreeMap<SubjectName, Vec<Rule>>,
}

/// The text is not a file of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct RulesError {
    line: usize,
    fault: String,
}

impl RulesError {
    /// Returns the line with the fault, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRules {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    subject: Spanned<String>,
    namespace: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    right: Right,
}

impl Rules {
    /// Reads a file of rules, which nobody but this user and root may be able to write. Blocks while
    /// it reads.
    ///
    /// # Errors
    /// [`AccessError::Unreadable`], [`AccessError::Unsafe`], [`AccessError::Malformed`].
    pub fn read(path: &Path) -> Result<Rules, AccessError> {
        Rules::read_version(path).map(|(rules, _)| rules)
    }

    pub(super) fn read_version(path: &Path) -> Result<(Rules, Version), AccessError> {
        let (text, version) = file::read(path, Readers::Everybody)?;
        let rules = Rules::parse(text.expose()).map_err(|fault| AccessError::Malformed {
            path: path.to_owned(),
            line: fault.line,
            fault: fault.fault,
        })?;
        Ok((rules, version))
    }

    /// Parses the text of a file of rules.
    ///
    /// # Errors
    /// [`RulesError`] names the line and the remedy. A text without any rule is one too: a file that
    /// is just being written must not deny everything to everybody.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        let raw: RawRules = toml::from_str(text).map_err(|error| RulesError {
            line: line_at(text, error.span().map_or(0, |span| span.start)),
            fault: format!(
                "{}; a rule is [[rule]] with subject, namespace or prefix, and right",
                error.message()
            ),
        })?;
        let count = raw.rule.len();
        if count == 0 || count > MAX_RULES {
            return Err(RulesError {
                line: 1,
                fault: match count {
                    0 => "there is no [[rule]], so nobody could do anything; write one".to_owned(),
                    _ => format!("there are {count} rules, but at most {MAX_RULES} are allowed"),
                },
            });
        }
        let mut rules = Rules::default();
        for rule in raw.rule {
            let line = line_at(text, rule.span().start);
            let rule = to_rule(text, line, rule.into_inner())?;
            let own = rules.by_subject.entry(rule.subject.clone());
            own.or_default().push(rule);
        }
        Ok(rules)
    }

    /// Returns the rule that gives a subject this right over all of these keys. One rule must cover
    /// them all.
    pub fn find(&self, subject: &Subject, right: Right, keys: &KeyRange) -> Option<&Rule> {
        self.of(subject)
            .find(|rule| rule.right >= right && rule.covers(keys))
    }

    /// Returns the rule that gives a subject most over all of these keys, if there is one.
    pub fn find_most(&self, subject: &Subject, keys: &KeyRange) -> Option<&Rule> {
        let covering = self.of(subject).filter(|rule| rule.covers(keys));
        covering.max_by_key(|rule| (rule.right, std::cmp::Reverse(rule.line)))
    }

    /// Returns whether a subject has this right over any key at all.
    pub(super) fn has_anywhere(&self, subject: &Subject, right: Right) -> bool {
        self.of(subject).any(|rule| rule.right >= right)
    }

    /// Returns the rules for a subject: those for each of its names, and those for anybody.
    fn of<'a, 's>(&'a self, subject: &'s Subject) -> impl Iterator<Item = &'a Rule> + use<'a, 's> {
        let names = subject.names().iter().chain([&SubjectName::Anybody]);
        names.filter_map(|name| self.by_subject.get(name)).flatten()
    }
}

/// Returns the keys of a lock, in this namespace unless its name is raw.
///
/// # Errors
/// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if the namespace is not valid.
pub fn keys_of_lock(namespace: &str, lock: &LockName) -> Result<KeyRange, lock_core::Error> {
    Ok(to_key_range(Keyspace::new(namespace)?.lock(lock)))
}

/// Returns the range with this one key.
pub fn keys_of_one(key: &[u8]) -> KeyRange {
    KeyRange::One(Bytes::copy_from_slice(key))
}

fn to_rule(text: &str, line: usize, raw: RawRule) -> Result<Rule, RulesError> {
    let at = |place: usize, fault: String| RulesError {
        line: line_at(text, place),
        fault,
    };
    let place = raw.subject.span().start;
    let subject: SubjectName = raw
        .subject
        .get_ref()
        .parse()
        .map_err(|error: super::SubjectNameError| at(place, error.to_string()))?;
    let prefix = match (raw.namespace, raw.prefix) {
        (Some(namespace), None) => {
            let keyspace = Keyspace::new(namespace.get_ref())
                .map_err(|error| at(namespace.span().start, error.to_string()))?;
            keyspace.prefix_of_all()
        }
        (None, Some(prefix)) => prefix.into_inner(),
        (None, None) => {
            let fault = "the rule has no keys; give namespace = \"NAME\" for the locks of a \
                         namespace, or prefix = \"KEYS\", where \"\" means every key";
            return Err(at(place, fault.to_owned()));
        }
        (Some(_), Some(prefix)) => {
            let fault = "the rule has a namespace and a prefix; make it two rules";
            return Err(at(prefix.span().start, fault.to_owned()));
        }
    };
    Ok(Rule {
        line,
        subject,
        keys: KeyRange::prefix(prefix.clone()),
        prefix,
        right: raw.right,
    })
}

/// Returns the line, from 1, of a place in a text.
fn line_at(text: &str, place: usize) -> usize {
    let before = text.as_bytes().iter().take(place);
    before.filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# Two teams.
[[rule]]
subject = "user:alice"
namespace = "team-a"
right = "lock"

[[rule]]
subject = "dns:web.example.org"
prefix = "jobs/nightly/"
right = "read"

[[rule]]
subject = "user:root"
prefix = ""
right = "admin"

[[rule]]
subject = "*"
prefix = "public/"
right = "read"
"#;

    fn subject(name: &str) -> Subject {
        Subject::new(vec![name.parse().expect("a name")])
    }

    fn line(subject_name: &str, right: Right, keys: &KeyRange) -> Option<usize> {
        let rules = Rules::parse(TEXT).expect("rules");
        rules
            .find(&subject(subject_name), right, keys)
            .map(Rule::line)
    }

    fn key(key: &'static str) -> KeyRange {
        KeyRange::One(Bytes::from_static(key.as_bytes()))
    }

    fn span(start: &'static str, end: Option<&'static str>) -> KeyRange {
        KeyRange::Span {
            start: Bytes::from_static(start.as_bytes()),
            end: end.map(|end| Bytes::from_static(end.as_bytes())),
        }
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        let a = || key("team-a/jobs/write/1-1");
        assert_eq!(line("user:alice", Right::Lock, &a()), Some(3));
        assert_eq!(
            line("user:alice", Right::Read, &a()),
            Some(3),
            "it is included"
        );
        assert_eq!(line("user:alice", Right::Admin, &a()), None);
        assert_eq!(
            line("cn:alice", Right::Read, &a()),
            None,
            "another kind of name"
        );
        assert_eq!(line("user:bob", Right::Read, &a()), None);
        assert_eq!(line("user:alice", Right::Read, &key("team-ab/x")), None);
        assert_eq!(line("user:alice", Right::Read, &key("team-a")), None);
        assert_eq!(line("user:root", Right::Admin, &KeyRange::all()), Some(13));
        assert_eq!(line("user:bob", Right::Read, &key("public/x")), Some(18));
        assert_eq!(line("user:bob", Right::Lock, &key("public/x")), None);
    }

    #[test]
    fn a_range_that_goes_beyond_the_prefix_is_denied() {
        let reads = |keys: KeyRange| line("user:alice", Right::Read, &keys).is_some();
        assert!(reads(KeyRange::prefix("team-a/")));
        assert!(reads(KeyRange::prefix("team-a/x")));
        assert!(reads(span("team-a/b", Some("team-a/c"))));
        assert!(reads(span("team-a/b", Some("team-a0"))), "up to its end");
        assert!(!reads(span("team-a/b", Some("team-a0\0"))));
        assert!(!reads(span("team-a/b", Some("team-b"))));
        assert!(!reads(span("team-a/b", None)), "from this key on");
        assert!(!reads(span("team-a.", Some("team-a0"))));
        assert!(!reads(KeyRange::all()));
        assert!(!reads(KeyRange::prefix("")));
    }

    #[test]
    fn a_fault_is_named_with_its_line_and_its_remedy() {
        let rule = "\n[[rule]]\nsubject = \"user:a\"\n";
        for (text, line, part) in [
            (String::new(), 1, "no [[rule]]"),
            ("\n# none\n".to_owned(), 1, "no [[rule]]"),
            (format!("{rule}right = \"lock\"\n"), 3, "namespace = "),
            (format!("{rule}prefix = \"a/\"\n"), 2, "right"),
            (
                format!("{rule}prefix = \"a/\"\nright = \"write\"\n"),
                5,
                "lock",
            ),
            (
                format!("{rule}namespace = \"\"\nright = \"lock\"\n"),
                4,
                "namespace",
            ),
            (
                format!("{rule}prefixes = \"a/\"\nright = \"lock\"\n"),
                4,
                "prefixes",
            ),
            (
                format!("{rule}namespace = \"a\"\nprefix = \"a/\"\nright = \"lock\"\n"),
                5,
                "two rules",
            ),
            (
                "[[rule]]\nsubject = \"alice\"\nprefix = \"\"\nright = \"read\"\n".to_owned(),
                2,
                "user:NAME",
            ),
            ("[[rule]]\nsubject = \n".to_owned(), 2, ""),
        ] {
            let error = Rules::parse(&text).expect_err(&text);
            assert_eq!(error.line(), line, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
