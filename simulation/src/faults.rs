//! The faults of a simulation: those of chaos, and those that only a simulation can make.

use std::time::Duration;

use fastrand::Rng;
use testkit::chaos::Trouble;
use testkit::chaos::plan::Vocabulary;
use testkit::history::Target;

/// A fault and its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    Contender(u32, Mishap),
    Server(Outage),
}

/// The faults of contenders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mishap {
    Pause,
    Kill,
    /// A fault of the link that a proxy can make, too.
    Link(Trouble),
    /// What the contender sends does not arrive, but what the server sends does.
    SilentRequests,
    /// What the server sends does not arrive, but what the contender sends does.
    SilentReplies,
    /// New connections are refused.
    Refusal,
    /// Somebody sets the wall clock.
    WallClock(i64),
}

/// The faults of the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outage {
    Pause,
    /// Its machine is suspended.
    Suspend,
    Kill,
    /// Its machine loses its power, and with it what was not synced.
    PowerCut,
    /// The disk is full.
    FullDisk,
    /// The disk fails.
    BrokenDisk,
    /// Each commit takes this long.
    SlowDisk(Duration),
    /// Somebody sets the wall clock.
    WallClock(i64),
}

impl Fault {
    /// Returns the target of the fault.
    pub fn target(self) -> Target {
        match self {
            Fault::Contender(contender, _) => Target::Contender(contender),
            Fault::Server(_) => Target::Member(0),
        }
    }

    /// Returns the name of the fault in reports.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Contender(_, Mishap::Pause) => "contender paused",
            Fault::Contender(_, Mishap::Kill) => "contender killed",
            Fault::Contender(_, Mishap::Link(Trouble::Silence)) => "link silent",
            Fault::Contender(_, Mishap::Link(Trouble::Delay(_))) => "link slow",
            Fault::Contender(_, Mishap::Link(Trouble::Swallow)) => "replies swallowed",
            Fault::Contender(_, Mishap::Link(Trouble::Cut)) => "connections cut",
            Fault::Contender(_, Mishap::SilentRequests) => "requests held back",
            Fault::Contender(_, Mishap::SilentReplies) => "replies held back",
            Fault::Contender(_, Mishap::Refusal) => "connections refused",
            Fault::Contender(_, Mishap::WallClock(_)) => "contender's wall clock set",
            Fault::Server(Outage::Pause) => "server paused",
            Fault::Server(Outage::Suspend) => "server suspended",
            Fault::Server(Outage::Kill) => "server killed",
            Fault::Server(Outage::PowerCut) => "server's power cut",
            Fault::Server(Outage::FullDisk) => "disk full",
            Fault::Server(Outage::BrokenDisk) => "disk broken",
            Fault::Server(Outage::SlowDisk(_)) => "disk slow",
            Fault::Server(Outage::WallClock(_)) => "server's wall clock set",
        }
    }
}

/// Draws the faults of a simulation.
pub struct Simulated {
    /// Whether contenders have connections, which can be cut, and not only links.
    pub has_connections: bool,
}

impl Vocabulary for Simulated {
    type Hit = Fault;

    fn contender(&self, rng: &mut Rng, contender: u32) -> (Fault, bool) {
        let mishap = match rng.u8(0..100) {
            0..22 => Mishap::Pause,
            22..35 => Mishap::Kill,
            35..48 => Mishap::Link(Trouble::Silence),
            48..56 => Mishap::SilentRequests,
            56..64 => Mishap::SilentReplies,
            64..74 if self.has_connections => Mishap::Link(Trouble::Swallow),
            74..84 => Mishap::Link(Trouble::Delay(Duration::from_millis(rng.u64(20..800)))),
            84..88 => Mishap::Refusal,
            88..92 => Mishap::WallClock(draw_seconds(rng)),
            _ if self.has_connections => Mishap::Link(Trouble::Cut),
            _ => Mishap::SilentReplies,
        };
        let lasts = mishap != Mishap::Link(Trouble::Cut);
        (Fault::Contender(contender, mishap), lasts)
    }

    fn members(&self, rng: &mut Rng) -> Box<dyn Fn(u32) -> Fault> {
        let outage = draw_outage(rng);
        Box::new(move |_| Fault::Server(outage))
    }
}

fn draw_outage(rng: &mut Rng) -> Outage {
    match rng.u8(0..100) {
        0..20 => Outage::Pause,
        20..30 => Outage::Suspend,
        30..50 => Outage::Kill,
        50..72 => Outage::PowerCut,
        72..80 => Outage::FullDisk,
        80..86 => Outage::BrokenDisk,
        86..95 => Outage::SlowDisk(Duration::from_millis(rng.u64(50..1_500))),
        _ => Outage::WallClock(draw_seconds(rng)),
    }
}

/// Draws by how much a wall clock is set wrong: up to a day.
fn draw_seconds(rng: &mut Rng) -> i64 {
    rng.i64(-86_400..=86_400)
}
