//! What the picture shows, apart from how it is drawn.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use turnlock::{LockName, Mode, clock};

use super::Update;
use crate::changes::{Kind, Seen};
use crate::output::{describe_owner, escape_controls};

/// The time over which rates are taken.
const WINDOW: Duration = Duration::from_secs(10);

/// The order of the locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The most waiters first.
    Waiters,
    /// The oldest hold first.
    Hold,
    /// The oldest wait first.
    Wait,
    Name,
}

/// A lock in use. Its texts are safe for a terminal.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub mode: Mode,
    pub waiting: usize,
    pub holders: usize,
    /// When its oldest hold and its oldest wait began, in milliseconds since the Unix epoch.
    pub held_since: Option<u64>,
    pub waiting_since: Option<u64>,
    pub holder: String,
    pub command: String,
    pub note: String,
    pub token: String,
}

/// The locks, and how fast they change hands.
pub struct Model {
    /// The coordinator.
    pub place: String,
    pub rows: Vec<Row>,
    pub sort: Sort,
    /// The number of rows above the picture.
    pub first: usize,
    /// How long the last reading took.
    pub took: Option<Duration>,
    /// Whether all locks are shown.
    pub is_complete: bool,
    /// Why the last reading failed.
    pub trouble: Option<String>,
    started: Instant,
    /// The grants and the ends of holds of each reading.
    recent: VecDeque<(Instant, usize, usize)>,
    has_read: bool,
}

impl Model {
    pub fn new(place: String) -> Self {
        Model {
            place: escape_controls(&place),
            rows: Vec::new(),
            sort: Sort::Waiters,
            first: 0,
            took: None,
            is_complete: true,
            trouble: None,
            started: Instant::now(),
            recent: VecDeque::new(),
            has_read: false,
        }
    }

    /// Takes in a reading, or the reason why it failed.
    pub fn update(&mut self, update: Update) {
        let (sample, contenders) = match update {
            Ok(read) => read,
            Err(why) => {
                self.trouble = Some(escape_controls(&why));
                return;
            }
        };
        self.trouble = None;
        self.took = Some(sample.took);
        self.is_complete = sample.is_complete;
        // In the first reading, everything has just begun.
        if std::mem::replace(&mut self.has_read, true) {
            let count = |kind| sample.changes.iter().filter(|c| c.kind == kind).count();
            let now = Instant::now();
            let counts = (now, count(Kind::Granted), count(Kind::HoldEnded));
            self.recent.push_back(counts);
            let is_old = |at: &Instant| now.duration_since(*at) > WINDOW;
            while self.recent.front().is_some_and(|(at, ..)| is_old(at)) {
                self.recent.pop_front();
            }
        } else {
            self.started = Instant::now();
        }
        self.rows = to_rows(contenders);
        self.order();
    }

    /// Returns the grants and the ends of holds in a second.
    pub fn rates(&self) -> (f64, f64) {
        let seconds = self.started.elapsed().min(WINDOW).as_secs_f64().max(1.0);
        let grants: usize = self.recent.iter().map(|(_, grants, _)| grants).sum();
        let ends: usize = self.recent.iter().map(|(_, _, ends)| ends).sum();
        (grants as f64 / seconds, ends as f64 / seconds)
    }

    /// Returns the number of waiters of all locks, and of locks that are waited for.
    pub fn waiting(&self) -> (usize, usize) {
        let waiting = self.rows.iter().map(|row| row.waiting);
        let contended = self.rows.iter().filter(|row| row.waiting > 0);
        (waiting.sum(), contended.count())
    }

    pub fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.first = 0;
        self.order();
    }

    /// Moves the rows that are shown. The end is kept by the picture, which knows its height.
    pub fn scroll(&mut self, by: isize) {
        self.first = self.first.saturating_add_signed(by);
    }

    fn order(&mut self) {
        let oldest = |since: Option<u64>| since.unwrap_or(u64::MAX);
        match self.sort {
            Sort::Name => self.rows.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::Waiters => self
                .rows
                .sort_by_key(|row| (Reverse(row.waiting), oldest(row.held_since))),
            Sort::Hold => self.rows.sort_by_key(|row| oldest(row.held_since)),
            Sort::Wait => self.rows.sort_by_key(|row| oldest(row.waiting_since)),
        }
    }
}

/// Returns how long something has lasted that began then.
pub fn age(since: u64) -> Duration {
    Duration::from_millis(clock::unix_millis().saturating_sub(since))
}

fn to_rows(contenders: Vec<Seen>) -> Vec<Row> {
    let mut locks: BTreeMap<LockName, Vec<Seen>> = BTreeMap::new();
    for seen in contenders {
        locks.entry(seen.lock.clone()).or_default().push(seen);
    }
    let rows = locks.into_iter().filter_map(|(name, seen)| {
        let (mut holding, waiting): (Vec<Seen>, Vec<Seen>) =
            seen.into_iter().partition(|seen| seen.holds);
        holding.sort_by_key(|seen| seen.entry.token);
        let oldest = |seen: &[Seen]| seen.iter().map(|seen| seen.since).min();
        let first = holding.first()?;
        let metadata = first.entry.metadata.clone().unwrap_or_default();
        let text = |text: Option<String>| escape_controls(&text.unwrap_or_default());
        let more = match holding.len() {
            0 | 1 => String::new(),
            all => format!(" +{}", all - 1),
        };
        Some(Row {
            name: escape_controls(name.as_str()),
            mode: first.entry.mode,
            waiting: waiting.len(),
            holders: holding.len(),
            held_since: oldest(&holding),
            waiting_since: oldest(&waiting),
            holder: describe_owner(&first.entry) + &more,
            command: text(metadata.command),
            note: text(metadata.note),
            token: first.entry.token.to_string(),
        })
    });
    rows.collect()
}
