//! The paths of the nodes of locks and sessions, and the meaning of a directory's listing.

use std::cmp::Reverse;
use std::collections::HashMap;

use lock_core::rule::{Ahead, Ask, View};
use lock_core::{DataKey, EntryId, Error, ErrorKind, Incarnation, LockName, Mode, SessionId, name};

use crate::node::{Contender, Place, Recipe};

/// The paths of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The prefix of raw names: empty, or a path without a slash at its end.
    chroot: String,
    namespace: String,
    pub(crate) recipe: Recipe,
}

impl Layout {
    pub(crate) fn new(chroot: &str, namespace: &str, recipe: Recipe) -> Self {
        Layout {
            chroot: chroot.to_owned(),
            namespace: format!("{chroot}/{namespace}"),
            recipe,
        }
    }

    /// Returns the directory of all native locks.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the directory of a lock.
    pub(crate) fn directory(&self, name: &LockName) -> Result<String, Error> {
        if !name.is_raw() {
            let encoded = name::encode(name.as_str());
            return Ok(child(&self.namespace, &encoded));
        }
        check_path(name.as_str()).map_err(|why| {
            Error::new(
                ErrorKind::InvalidName,
                format!(
                    "the raw name {:?} is no path of ZooKeeper's: {why}",
                    name.as_str()
                ),
            )
        })?;
        Ok(format!("{}{}", self.chroot, name.as_str()))
    }

    /// Returns the directory in which an entry of this mode can stand.
    pub(crate) fn directory_for(&self, name: &LockName, mode: Mode) -> Result<String, Error> {
        if name.is_raw() && mode == Mode::Shared && self.recipe == Recipe::Mutex {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the raw lock {:?} cannot be shared: users of Curator's mutex there would not \
                     wait for us; if they use its read/write lock, write recipe=rwlock in the \
                     coordinator's URL",
                    name.as_str()
                ),
            ));
        }
        self.directory(name)
    }

    /// Returns the native lock whose directory has this name.
    pub(crate) fn name_of(&self, child: &str) -> Option<LockName> {
        name::decode(child)
    }

    /// Returns the directory of the sessions' own nodes. It cannot be a lock's directory, because
    /// `@` is always escaped in an encoded name.
    pub(crate) fn sessions(&self) -> String {
        format!("{}/@sessions", self.namespace)
    }

    /// Returns the node of the token offset.
    pub(crate) fn token_offset_node(&self) -> String {
        format!("{}/@floor", self.namespace)
    }

    /// Returns the node of a value that holders keep. It is in no lock's directory either.
    pub(crate) fn data_node(&self, key: &DataKey) -> String {
        format!("{}/@data/{}", self.namespace, key.encoded())
    }

    /// Returns the node that a session writes to, to prove that it lives.
    pub(crate) fn session_node(&self, session: SessionId) -> String {
        format!("{}/{session}", self.sessions())
    }
}

/// Checks a path by ZooKeeper's own rules, and that it is not the root. The error is advice for the
/// user.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    let Some(components) = path.strip_prefix('/') else {
        return Err("begin it with '/'");
    };
    let is_forbidden = |c: char| {
        matches!(
            u32::from(c),
            0x00..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff
        )
    };
    if path.contains(is_forbidden) {
        return Err("ZooKeeper does not take one of its characters");
    }
    for component in components.split('/') {
        match component {
            "" => {
                return Err(
                    "write single slashes, none at the end, and name a node below the root",
                );
            }
            "." | ".." => return Err("leave '.' and '..' out"),
            _ => {}
        }
    }
    match components.split('/').next() {
        Some("zookeeper") => Err("what is below /zookeeper is ZooKeeper's own"),
        _ => Ok(()),
    }
}

/// Returns the path of a child of a directory. It is made in one piece, as `format!` would not.
pub(crate) fn child(directory: &str, name: &str) -> String {
    [directory, "/", name].concat()
}

/// Returns the path of an entry, which is its key.
pub(crate) fn path(entry: &EntryId) -> Result<String, Error> {
    split(entry).map(|(directory, name)| child(directory, name))
}

/// Splits an entry's path into its directory and its name.
pub(crate) fn split(entry: &EntryId) -> Result<(&str, &str), Error> {
    let path = std::str::from_utf8(&entry.key).ok();
    path.and_then(|path| path.rsplit_once('/')).ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            format!("{entry:?} is no entry of this backend"),
        )
    })
}

pub(crate) fn entry(directory: &str, name: &str, incarnation: Option<Incarnation>) -> EntryId {
    EntryId {
        key: child(directory, name).into_bytes().into(),
        incarnation,
    }
}

/// The view of an entry that does not exist.
pub(crate) const ABSENT: View = View {
    present: false,
    ahead: Vec::new(),
};

/// The view of the only entry in a queue.
pub(crate) const FREE: View = View {
    present: true,
    ahead: Vec::new(),
};

/// Returns whether nobody else stands in the queue, ahead or behind.
pub(crate) fn is_alone(own: &EntryId, children: &[String]) -> bool {
    let mut contenders = children.iter().filter_map(|child| Contender::parse(child));
    split(own).is_ok_and(|(_, name)| contenders.all(|other| other.name == name))
}

/// Returns whether a new contender would have to wait.
pub(crate) fn is_busy(children: &[String], ask: Ask) -> bool {
    contenders(children, ask).next().is_some()
}

/// Returns the other contenders whose order relative to our entry needs their czxids. There are
/// none unless the directory's counter is used up.
pub(crate) fn find_unplaced<'a>(own: &str, children: &'a [String], ask: Ask) -> Vec<&'a str> {
    if Contender::parse(own).is_none_or(|own| own.place().is_some()) {
        return Vec::new();
    }
    contenders(children, ask)
        .filter(|other| other.place().is_none() && other.name != own)
        .map(|other| other.name)
        .collect()
}

/// The view of an entry in a listing, and what a waiter can remember of it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) view: View,
    /// The one entry that stands ahead, if no other entry does and none ever will: later entries
    /// stand behind ours.
    pub(crate) only: Option<Ahead>,
}

/// Returns the view of our entry. `created` has the czxids of the entries that
/// [`find_unplaced`] returned; an entry that is missing there is gone.
pub(crate) fn view(
    own: &EntryId,
    children: &[String],
    ask: Ask,
    created: &HashMap<String, Incarnation>,
) -> Result<Seen, Error> {
    let (directory, name) = split(own)?;
    let listed = children.iter().any(|child| child == name);
    let Some(contender) = Contender::parse(name).filter(|_| listed) else {
        return Ok(Seen {
            view: ABSENT,
            only: None,
        });
    };
    let place = contender
        .place()
        .or(own.incarnation.map(Place::Created))
        .ok_or_else(|| {
            let text = format!("{own:?} needs an incarnation to have a place in the order");
            Error::new(ErrorKind::Internal, text)
        })?;
    let mut ahead: Vec<(Place, Contender<'_>)> = contenders(children, ask)
        .filter_map(|other| {
            let czxid = || created.get(other.name).copied().map(Place::Created);
            Some((other.place().or_else(czxid)?, other))
        })
        .filter(|(other, _)| *other < place)
        .collect();
    // Sort nearest first.
    ahead.sort_unstable_by_key(|(place, _)| Reverse(*place));
    let stand = |other: &Contender<'_>| Ahead {
        // Only the name was listed. It alone identifies the entry, since no uuid comes twice.
        id: entry(directory, other.name, None),
        mode: other.mode,
    };
    let only = match ahead.as_slice() {
        [(_, other)] if !other.heritable => Some(stand(other)),
        _ => None,
    };
    let ahead = ahead.iter().take(ask.limit);
    let view = View {
        present: true,
        ahead: ahead.map(|(_, other)| stand(other)).collect(),
    };
    Ok(Seen { view, only })
}

fn contenders(children: &[String], ask: Ask) -> impl Iterator<Item = Contender<'_>> {
    children
        .iter()
        .filter_map(|child| Contender::parse(child))
        .filter(move |c| !ask.exclusive_only || c.mode == Mode::Exclusive)
}

#[cfg(test)]
mod tests {
    use lock_core::rule;

    use super::*;

    fn layout(chroot: &str) -> Layout {
        Layout::new(chroot, "turnlock", Recipe::Mutex)
    }

    fn known(czxid: u64) -> Incarnation {
        Incarnation::new(czxid).expect("not zero")
    }

    fn children(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    /// Returns the entries that stand ahead of the entry with this name and czxid, among these
    /// nodes.
    fn ahead(own: (&str, u64), nodes: &[(&str, u64)], mode: Mode) -> Vec<String> {
        let ask = rule::ask(mode);
        let names: Vec<String> = nodes.iter().map(|(name, _)| (*name).to_owned()).collect();
        let unplaced = find_unplaced(own.0, &names, ask);
        let created = nodes
            .iter()
            .filter(|(name, _)| unplaced.contains(name))
            .map(|(name, czxid)| ((*name).to_owned(), known(*czxid)))
            .collect();
        let own = entry("/d", own.0, Incarnation::new(own.1));
        let Seen { view, only } = view(&own, &names, ask, &created).expect("a path");
        assert!(view.present);
        assert!(only.is_none_or(|only| view.ahead == [only]));
        let name = |a: &Ahead| split(&a.id).expect("a path").1.to_owned();
        view.ahead.iter().map(name).collect()
    }

    #[test]
    fn directories_never_lie_in_one_another() {
        let directory = |name: &str| layout("/x").directory(&LockName::new(name).expect("valid"));
        assert_eq!(directory("a").expect("valid"), "/x/turnlock/a");
        assert_eq!(directory("a/b").expect("valid"), "/x/turnlock/a%2Fb");
        let raw = |name: &str| layout("/x").directory(&LockName::raw(name).expect("valid"));
        assert_eq!(raw("/a/b").expect("valid"), "/x/a/b");
    }

    #[test]
    fn a_raw_name_that_is_no_path_is_refused_with_the_remedy() {
        let cases = [
            ("a", "begin it with '/'"),
            ("/", "below the root"),
            ("/a/", "single slashes"),
            ("/a//b", "single slashes"),
            ("/a/../b", "leave '.' and '..' out"),
            ("/a\u{ffff}", "characters"),
            ("/zookeeper/config", "ZooKeeper's own"),
        ];
        for (name, remedy) in cases {
            let name = LockName::raw(name).expect("no control characters");
            let error = layout("").directory(&name).expect_err("no path");
            assert_eq!(error.kind(), ErrorKind::InvalidName);
            assert!(error.to_string().contains(remedy), "{error}");
        }
        let name = LockName::raw("/a").expect("valid");
        let error = layout("")
            .directory_for(&name, Mode::Shared)
            .expect_err("a mutex is not shared");
        assert!(error.to_string().contains("recipe=rwlock"), "{error}");
    }

    #[test]
    fn the_nearest_that_conflicts_is_seen_whatever_the_order_of_the_listing() {
        let nodes = [
            ("b-__READ__0000000003", 3),
            ("own-lock-0000000005", 5),
            ("z-lock-0000000001", 1),
            ("c-__WRIT__0000000002", 2),
            ("later-lock-0000000006", 6),
            ("last-lock-2147483647", 7),
            ("leases", 0),
            ("0123__rlock__0000000004", 4),
        ];
        assert_eq!(
            ahead(nodes[1], &nodes, Mode::Exclusive),
            ["0123__rlock__0000000004"]
        );
        assert_eq!(
            ahead(nodes[1], &nodes, Mode::Shared),
            ["c-__WRIT__0000000002"]
        );
        let busy = |names: &[&str], mode| is_busy(&children(names), rule::ask(mode));
        assert!(busy(&["c-__WRIT__0000000002"], Mode::Shared));
        assert!(!busy(&["r__READ__0000000001", "x"], Mode::Shared));
        assert!(busy(&["r__READ__0000000001", "x"], Mode::Exclusive));
    }

    #[test]
    fn a_counter_that_is_used_up_hides_nobody() {
        // The numbers that ZooKeeper 3.8 gives: alone, alone, two together with one before, alone.
        let nodes = [
            ("a-lock-2147483646", 7),
            ("b-lock-2147483647", 8),
            ("c-lock-2147483647", 9),
            ("d-lock--2147483648", 10),
            ("e-lock--2147483647", 11),
            ("f-lock-2147483647", 20),
        ];
        assert!(ahead(nodes[0], &nodes, Mode::Exclusive).is_empty());
        for pair in nodes.windows(2) {
            assert_eq!(ahead(pair[1], &nodes, Mode::Exclusive), [pair[0].0]);
        }
    }

    #[test]
    fn only_one_that_leaves_no_heir_is_known_to_be_the_last_ahead() {
        let only = |names: &[&str], mode| {
            let own = entry("/d", "own-lock-0000000005", Incarnation::new(5));
            let names = children(&[names, &["own-lock-0000000005"]].concat());
            let seen = view(&own, &names, rule::ask(mode), &HashMap::new()).expect("a path");
            seen.only.is_some()
        };
        assert!(only(&["a-lock-0000000001"], Mode::Exclusive));
        assert!(only(&["a-__READ__0000000001"], Mode::Exclusive));
        assert!(only(
            &["a-lock-0000000001", "b-__READ__0000000002"],
            Mode::Shared
        ));
        assert!(!only(
            &["a-lock-0000000001", "b-__READ__0000000002"],
            Mode::Exclusive
        ));
        assert!(
            !only(&["a-__WRIT__0000000001"], Mode::Exclusive),
            "it may be downgraded"
        );
        assert!(!only(&["a-0000000001"], Mode::Exclusive), "who knows");
        assert!(!only(&[], Mode::Exclusive));
    }

    #[test]
    fn an_entry_that_is_not_listed_is_not_there() {
        let own = entry("/d", "own-lock-0000000005", Incarnation::new(5));
        let seen = view(
            &own,
            &children(&["a-lock-0000000001"]),
            rule::ask(Mode::Exclusive),
            &HashMap::new(),
        )
        .expect("a path");
        assert!(seen.view == ABSENT && seen.only.is_none());
    }
}
