//! Simulated processes, which can be paused, suspended and killed, and have clocks of their own.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lock_core::clock::BootInstant;
use lock_core::surroundings::simulated;
use testkit::history::journal::CommonClock;
use tokio::task::AbortHandle;

use crate::network::Wire;
use crate::world::{World, lock, to_nanos};

/// The rate of a clock that is right.
pub const RIGHT_RATE: u64 = 1_000_000;
/// One of so many polls is put off, so that other tasks run first.
const PUT_OFF: u32 = 64;
/// The wall clock at the start of a world: a day in November 2026.
const WALL_CLOCK: Duration = Duration::from_secs(1_795_900_000);

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The system closes its connections.
    Kill,
    /// Its machine is gone, and tells nobody.
    PowerCut,
}

/// A process.
#[derive(Debug)]
pub struct Process {
    world: World,
    id: u32,
    /// What its clock showed at the start of the world.
    offset: u64,
    /// How many nanoseconds its clock goes on in a millisecond of the world.
    rate: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// What has to be woken when it runs again.
    asleep: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    wires: Vec<(Weak<Wire>, usize)>,
    wall_clock_seconds: i64,
    /// For how long its machine was suspended.
    suspended: Duration,
    /// When its machine was suspended, if it is.
    suspended_at: Option<Duration>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Runs,
    Paused,
    Ended(End),
}

impl Process {
    /// Starts a process whose clock has this rate.
    pub fn start(world: &World, id: u32, rate: u64) -> Arc<Self> {
        // Instants of different machines must not be comparable by chance.
        let offset = world.draw(|rng| rng.u64(1_000_000_000..1_000_000_000_000_000));
        world.trace("start", u64::from(id), offset);
        Arc::new(Process {
            world: world.clone(),
            id,
            offset,
            rate,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns this process as a task's.
    pub fn as_simulated(self: &Arc<Self>) -> Arc<dyn simulated::Process> {
        self.clone()
    }

    /// Stops the process, as SIGSTOP does.
    pub fn pause(&self) {
        self.state().phase = Phase::Paused;
    }

    /// Suspends the machine of the process: its clock of running time stands still as well.
    pub fn suspend(&self) {
        let mut state = self.state();
        state.phase = Phase::Paused;
        state.suspended_at = Some(self.world.elapsed());
    }

    /// Lets the process run again, with all timers run out and all sockets full. Its tasks run in
    /// any order.
    pub fn resume(&self) {
        let mut asleep = {
            let mut state = self.state();
            if let Some(since) = state.suspended_at.take() {
                state.suspended += self.world.elapsed().saturating_sub(since);
            }
            if state.phase == Phase::Paused {
                state.phase = Phase::Runs;
            }
            mem::take(&mut state.asleep)
        };
        self.world.draw(|rng| rng.shuffle(&mut asleep));
        asleep.into_iter().for_each(Waker::wake);
    }

    /// Ends the process: first its connections, then its tasks.
    pub fn end(&self, end: End) {
        let (asleep, tasks, wires) = {
            let mut state = self.state();
            state.phase = Phase::Ended(end);
            (
                mem::take(&mut state.asleep),
                mem::take(&mut state.tasks),
                mem::take(&mut state.wires),
            )
        };
        self.world.trace("end", u64::from(self.id), 0);
        for (wire, side) in wires {
            if let Some(wire) = wire.upgrade() {
                wire.abandon(side, end);
            }
        }
        tasks.iter().for_each(AbortHandle::abort);
        asleep.into_iter().for_each(Waker::wake);
    }

    /// Sets the wall clock this many seconds ahead of the right time.
    pub fn set_wall_clock(&self, seconds: i64) {
        self.state().wall_clock_seconds = seconds;
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.state().phase, Phase::Ended(_))
    }

    /// Returns whether the process runs now. If it is paused, wakes this waker when it runs again.
    pub fn runs_or_wakes(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.phase == Phase::Paused {
            state.asleep.push(waker.clone());
        }
        state.phase != Phase::Paused
    }

    /// Adds a connection of which the process has this end.
    pub fn add_wire(&self, wire: &Arc<Wire>, side: usize) {
        let mut state = self.state();
        state.wires.retain(|(wire, _)| wire.strong_count() > 0);
        state.wires.push((Arc::downgrade(wire), side));
    }

    fn nanos(&self, elapsed: Duration) -> u64 {
        let passed = u128::from(to_nanos(elapsed)) * u128::from(self.rate);
        let passed = passed / u128::from(RIGHT_RATE);
        self.offset + u64::try_from(passed).unwrap_or(u64::MAX / 2)
    }
}

impl simulated::Process for Process {
    fn boot_nanos(&self) -> u64 {
        self.nanos(self.world.elapsed())
    }

    fn running_time(&self) -> Duration {
        let state = self.state();
        let now = state.suspended_at.unwrap_or_else(|| self.world.elapsed());
        let running = now.saturating_sub(state.suspended);
        Duration::from_nanos(self.nanos(running))
    }

    fn wall_clock(&self) -> SystemTime {
        let seconds = self.state().wall_clock_seconds;
        let right = UNIX_EPOCH + WALL_CLOCK + self.world.elapsed();
        let off = Duration::from_secs(seconds.unsigned_abs());
        match seconds < 0 {
            true => right - off,
            false => right + off,
        }
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn poll_task(
        &self,
        context: &mut Context<'_>,
        poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        if self.has_ended() || !self.runs_or_wakes(context.waker()) {
            return Poll::Pending;
        }
        if self.world.draw(|rng| rng.u32(..PUT_OFF)) == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        poll(context)
    }

    fn add_task(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.tasks.len() == state.tasks.capacity() {
            state.tasks.retain(|task| !task.is_finished());
        }
        state.tasks.push(task);
    }
}

/// The world's clock, for instants that the process's clock shows.
#[derive(Debug)]
pub struct ProcessClock(pub Arc<Process>);

impl CommonClock for ProcessClock {
    fn now(&self) -> BootInstant {
        self.0.world.now()
    }

    fn to_common(&self, own: BootInstant) -> BootInstant {
        let passed = u128::from(own.as_nanos().saturating_sub(self.0.offset));
        let passed = (passed * u128::from(RIGHT_RATE)).div_ceil(u128::from(self.0.rate));
        let passed = u64::try_from(passed).unwrap_or(u64::MAX / 2);
        let start = self.0.world.now().as_nanos() - to_nanos(self.0.world.elapsed());
        BootInstant::from_nanos(start.saturating_add(passed))
    }
}
