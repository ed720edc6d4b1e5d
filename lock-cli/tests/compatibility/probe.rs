//! A row of the page: what is asked, and what comes of it.

use crate::answer::Answer;

/// How the server answers, compared with etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// With the same answers.
    AsEtcd,
    /// With others.
    Limited,
    /// That it does not implement the method.
    Refused,
}

impl Verdict {
    /// Judges by the answers to the same requests.
    pub fn of(theirs: &[Answer], ours: &[Answer]) -> Self {
        let is_refused = |answers: &[Answer]| answers.last().is_some_and(Answer::is_unimplemented);
        match theirs == ours {
            // Also what this etcd does not have yet.
            _ if is_refused(ours) => Verdict::Refused,
            true => Verdict::AsEtcd,
            false => Verdict::Limited,
        }
    }

    /// Returns the verdict as the page shows it.
    pub fn text(self) -> &'static str {
        match self {
            Verdict::AsEtcd => "as etcd",
            Verdict::Limited => "limited",
            Verdict::Refused => "refused",
        }
    }
}

/// What to ask, and the verdict that the answers must lead to.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The method or the field.
    pub name: &'static str,
    pub verdict: Verdict,
    /// What is different, for the page.
    pub reason: &'static str,
    /// The requests, see [`Client::run`](crate::script::Client::run).
    pub steps: &'static [&'static str],
}

/// Returns the name of a method or a field without its package.
pub fn short(full_name: &str) -> String {
    let (_, name) = full_name.split_once('.').expect("a package");
    name.to_owned()
}
