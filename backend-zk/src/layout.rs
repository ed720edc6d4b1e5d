//! Where the nodes are: the directory of a lock, the node of a session, and what a listing of a
//! directory says.

use lock_core::rule::{Ahead, Ask, View};
use lock_core::{EntryId, Error, ErrorKind, LockName, Mode, SessionId, Token, name};

use crate::config::Recipe;
use crate::node::Contender;

/// The paths of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// What raw names are relative to: empty, or a path without a slash at its end.
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

    /// The directory of all native locks.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The directory of a lock.
    pub(crate) fn directory(&self, name: &LockName) -> Result<String, Error> {
        if !name.is_raw() {
            return Ok(format!(
                "{}/{}",
                self.namespace,
                name::encode(name.as_str())
            ));
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

    /// The directory in which an entry of this mode can stand.
    pub(crate) fn directory_for(&self, name: &LockName, mode: Mode) -> Result<String, Error> {
        if name.is_raw() && mode == Mode::Shared && self.recipe == Recipe::Mutex {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the raw lock {:?} cannot be shared: users of Curator's mutex there would not wait for us; if they use its read/write lock, write recipe=rwlock in the coordinator's URL",
                    name.as_str()
                ),
            ));
        }
        self.directory(name)
    }

    /// The native lock whose directory has this name.
    pub(crate) fn name_of(&self, child: &str) -> Option<LockName> {
        name::decode(child)
    }

    /// The directory of the sessions' own nodes. It is no lock's: `@` is always escaped in an
    /// encoded name.
    fn sessions(&self) -> String {
        format!("{}/@sessions", self.namespace)
    }

    /// The node that a session writes to, to prove that it lives.
    pub(crate) fn session_node(&self, session: SessionId) -> String {
        format!("{}/{session}", self.sessions())
    }
}

/// What is wrong with a path, if anything: ZooKeeper's own rules, and that it is not the root.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    let Some(components) = path.strip_prefix('/') else {
        return Err("begin it with '/'");
    };
    let bad = |c: char| matches!(u32::from(c), 0x00..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff);
    if path.contains(bad) {
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

/// The path of an entry: its key.
pub(crate) fn path(entry: &EntryId) -> Result<String, Error> {
    split(entry).map(|(directory, name)| format!("{directory}/{name}"))
}

/// The directory and the name of an entry.
pub(crate) fn split(entry: &EntryId) -> Result<(&str, &str), Error> {
    let path = std::str::from_utf8(&entry.key).ok();
    path.and_then(|path| path.rsplit_once('/')).ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            format!("{entry:?} is no entry of this backend"),
        )
    })
}

/// Puts a queue into the order of arrival.
pub(crate) fn sort(contenders: &mut [Contender<'_>]) {
    if let Some(any) = contenders.first().copied() {
        contenders.sort_by_key(|contender| contender.behind(&any));
    }
}

/// An entry of which only the name was listed. The name alone is the incarnation, since no sequence
/// number comes with the same uuid twice, so its token is left at zero: it is not known, and
/// nothing is compared with it.
fn listed(directory: &str, name: &str) -> EntryId {
    entry(directory, name, Token(0))
}

pub(crate) fn entry(directory: &str, name: &str, token: Token) -> EntryId {
    EntryId {
        key: format!("{directory}/{name}").into_bytes().into(),
        token,
    }
}

/// Whether somebody who came now would have to wait.
pub(crate) fn is_busy(children: &[String], ask: Ask) -> bool {
    contenders(children, ask).next().is_some()
}

/// What the entry of this name sees.
pub(crate) fn view(directory: &str, own: &str, children: &[String], ask: Ask) -> View {
    let own = children
        .iter()
        .find(|child| *child == own)
        .and_then(|own| Contender::parse(own));
    let Some(own) = own else {
        return View {
            present: false,
            ahead: Vec::new(),
        };
    };
    let mut ahead: Vec<Contender<'_>> = contenders(children, ask)
        .filter(|other| other.behind(&own) < 0)
        .collect();
    // Nearest first.
    ahead.sort_unstable_by_key(|other| own.behind(other));
    View {
        present: true,
        ahead: ahead
            .iter()
            .take(ask.limit)
            .map(|other| Ahead {
                id: listed(directory, other.name),
                mode: other.mode,
            })
            .collect(),
    }
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

    fn children(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn ahead(own: &str, names: &[&str], mode: Mode) -> Vec<String> {
        let view = view("/d", own, &children(names), rule::ask(mode));
        assert!(view.present);
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
    fn the_nearest_that_conflicts_is_seen_whatever_the_listing_s_order() {
        let names = [
            "b-__READ__0000000003",
            "own-lock-0000000005",
            "z-lock-0000000001",
            "c-__WRIT__0000000002",
            "later-lock-0000000006",
            "leases",
            "0123__rlock__0000000004",
        ];
        let own = "own-lock-0000000005";
        assert_eq!(
            ahead(own, &names, Mode::Exclusive),
            ["0123__rlock__0000000004"]
        );
        assert_eq!(ahead(own, &names, Mode::Shared), ["c-__WRIT__0000000002"]);
        assert!(is_busy(&children(&names), rule::ask(Mode::Shared)));
        assert!(!is_busy(
            &children(&["r__READ__0000000001", "x"]),
            rule::ask(Mode::Shared)
        ));
    }

    #[test]
    fn the_sign_change_hides_nobody() {
        let names = [
            "a-lock-2147483647",
            "b-lock--2147483648",
            "own-lock--2147483647",
        ];
        assert_eq!(
            ahead(names[2], &names, Mode::Exclusive),
            ["b-lock--2147483648"]
        );
        assert_eq!(
            ahead(names[1], &names, Mode::Exclusive),
            ["a-lock-2147483647"]
        );
        assert!(ahead(names[0], &names, Mode::Exclusive).is_empty());
    }

    #[test]
    fn an_entry_that_is_not_listed_is_not_there() {
        let view = view(
            "/d",
            "own-lock-0000000005",
            &children(&["a-lock-0000000001"]),
            rule::ask(Mode::Exclusive),
        );
        assert!(!view.present && view.ahead.is_empty());
    }
}
