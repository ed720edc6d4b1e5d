//! Connections between processes. Bytes of one connection arrive in their order, and those of
//! different connections in any.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::process::{End, Process};
use crate::setup::Latency;
use crate::world::{World, lock};

/// The side of a connection that a client has.
pub const CLIENT: usize = 0;
/// The side of a connection that the server has.
pub const SERVER: usize = 1;

/// The machine of the server, as the network finds it.
#[derive(Debug, Default)]
pub struct Host(Mutex<Option<End>>);

impl Host {
    /// Sets that a server listens, or how the last one ended.
    pub fn set(&self, ended: Option<End>) {
        *lock(&self.0) = ended;
    }

    /// Returns how the last server ended, if none listens.
    pub fn ended(&self) -> Option<End> {
        *lock(&self.0)
    }
}

/// What the network between one client and the server does to all of their connections.
#[derive(Debug)]
pub struct Link {
    world: World,
    latency: Latency,
    host: Arc<Host>,
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    /// Whether no byte from this side arrives.
    silent: [bool; 2],
    delay: Duration,
    refuses: bool,
    wires: Vec<Weak<Wire>>,
    /// What waits for the end of a silence.
    waiting: Vec<Waker>,
    last: u64,
}

impl Link {
    pub fn new(world: &World, latency: Latency, host: &Arc<Host>) -> Arc<Self> {
        Arc::new(Link {
            world: world.clone(),
            latency,
            host: host.clone(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        lock(&self.state)
    }

    /// Sets from which sides no byte arrives. What was sent arrives when that is over.
    pub fn silence(&self, from: [bool; 2]) {
        let waiting = {
            let mut state = self.state();
            state.silent = from;
            mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Makes each byte take this much longer, in each direction.
    pub fn delay(&self, by: Duration) {
        self.state().delay = by;
    }

    /// Sets whether new connections are refused.
    pub fn refuse(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// Loses all that the server sends on the present connections.
    pub fn swallow(&self) {
        for wire in self.wires() {
            wire.state().swallows = true;
        }
    }

    /// Cuts the present connections at once.
    pub fn cut(&self) {
        for wire in self.wires() {
            wire.reset([true, true]);
        }
    }

    fn wires(&self) -> Vec<Arc<Wire>> {
        let mut state = self.state();
        state.wires.retain(|wire| wire.strong_count() > 0);
        state.wires.iter().filter_map(Weak::upgrade).collect()
    }

    /// Draws the time at which something that is sent now arrives.
    fn arrival(&self) -> Instant {
        let delay = self.state().delay;
        Instant::now() + delay + self.world.draw(|rng| self.latency.draw(rng))
    }

    /// Returns whether something from this side arrives now. If not, wakes this waker when it does.
    fn is_open(&self, from: usize, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.silent[from] {
            state.waiting.push(waker.clone());
        }
        !state.silent[from]
    }

    /// Waits for as long as something from this side is under way.
    pub async fn pass(&self, from: usize) {
        std::future::poll_fn(|context| match self.is_open(from, context.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        sleep_until(self.arrival()).await;
    }

    /// Returns whether new connections are refused.
    pub fn refuses(&self) -> bool {
        self.state().refuses
    }

    /// Waits for as long as it takes to open a connection.
    pub async fn open(&self) -> io::Result<()> {
        self.pass(CLIENT).await;
        self.pass(SERVER).await;
        match self.host.ended() {
            Some(End::PowerCut) => std::future::pending().await,
            Some(End::Kill) => Err(io::ErrorKind::ConnectionRefused.into()),
            None if self.refuses() => Err(io::ErrorKind::ConnectionRefused.into()),
            None => Ok(()),
        }
    }

    /// Makes a connection between two processes, and returns its two ends, that of the client first.
    pub fn connect(self: &Arc<Self>, processes: [&Arc<Process>; 2]) -> [Socket; 2] {
        let id = {
            let mut state = self.state();
            state.last += 1;
            state.last
        };
        let wire = Arc::new(Wire {
            link: self.clone(),
            state: Mutex::default(),
        });
        self.state().wires.push(Arc::downgrade(&wire));
        [CLIENT, SERVER].map(|side| {
            let process = processes[side].clone();
            process.add_wire(&wire, side);
            Socket {
                id: id * 2 + side as u64,
                side,
                process,
                wire: wire.clone(),
                due: None,
            }
        })
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    link: Arc<Link>,
    state: Mutex<WireState>,
}

#[derive(Debug, Default)]
struct WireState {
    /// What each side has sent and the other has not received.
    sent: [VecDeque<(Instant, Item)>; 2],
    last: [Option<Instant>; 2],
    readers: [Option<Waker>; 2],
    /// Whether the side has got a reset.
    is_reset: [bool; 2],
    /// How the side left the connection, if it did.
    left: [Option<Left>; 2],
    swallows: bool,
}

/// How a side left a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It closed the connection. What still comes is answered by a reset.
    Closed,
    /// Its machine lost its power. Nothing answers until the machine is up again.
    Gone,
}

#[derive(Debug)]
enum Item {
    Bytes(Vec<u8>, usize),
    End,
    Reset,
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, WireState> {
        lock(&self.state)
    }

    /// Ends the connection as the end of this side's process does.
    pub fn abandon(&self, side: usize, end: End) {
        match end {
            End::PowerCut => self.state().left[side] = Some(Left::Gone),
            End::Kill => self.leave(side, Item::Reset),
        }
    }

    /// Resets these sides at once.
    fn reset(&self, sides: [bool; 2]) {
        let readers = {
            let mut state = self.state();
            for side in [CLIENT, SERVER] {
                state.is_reset[side] |= sides[side];
            }
            mem::take(&mut state.readers)
        };
        readers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Sends the last item of a side.
    fn leave(&self, side: usize, last: Item) {
        if self.state().left[side].is_none() {
            self.send(side, last);
            self.state().left[side] = Some(Left::Closed);
        }
    }

    fn send(&self, side: usize, item: Item) {
        let peer = 1 - side;
        let is_answered = |left| left == Left::Closed || self.link.host.ended().is_none();
        let peer_left = self.state().left[peer];
        let (side, item) = match (peer_left, item) {
            (None, item) => (side, item),
            (Some(left), Item::Bytes(..)) if is_answered(left) => (peer, Item::Reset),
            (Some(_), _) => return,
        };
        let arrival = self.link.arrival();
        let reader = {
            let mut state = self.state();
            if side == SERVER && state.swallows && matches!(item, Item::Bytes(..)) {
                return;
            }
            let arrival = state.last[side].map_or(arrival, |last| last.max(arrival));
            state.last[side] = Some(arrival);
            state.sent[side].push_back((arrival, item));
            state.readers[1 - side].take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Socket {
    id: u64,
    side: usize,
    process: Arc<Process>,
    wire: Arc<Wire>,
    due: Option<Pin<Box<Sleep>>>,
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let from = 1 - this.side;
        loop {
            if this.process.has_ended() {
                return Poll::Ready(Err(reset()));
            }
            if !this.process.runs_or_wakes(context.waker()) {
                return Poll::Pending;
            }
            let due = {
                let mut state = this.wire.state();
                if state.is_reset[this.side] {
                    return Poll::Ready(Err(reset()));
                }
                state.readers[this.side] = Some(context.waker().clone());
                match state.sent[from].front() {
                    None => return Poll::Pending,
                    Some((due, _)) => *due,
                }
            };
            if !this.wire.link.is_open(from, context.waker()) {
                return Poll::Pending;
            }
            if due > Instant::now() {
                let sleep = this.due.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if sleep.deadline() != due {
                    sleep.as_mut().reset(due);
                }
                ready!(sleep.as_mut().poll(context));
                continue;
            }
            let mut state = this.wire.state();
            let Some((_, item)) = state.sent[from].front_mut() else {
                continue;
            };
            match item {
                Item::Bytes(bytes, start) => {
                    let count = buffer.remaining().min(bytes.len() - *start);
                    buffer.put_slice(&bytes[*start..*start + count]);
                    *start += count;
                    if *start == bytes.len() {
                        state.sent[from].pop_front();
                    }
                    drop(state);
                    let checksum = crc32fast::hash(buffer.filled());
                    let world = &this.wire.link.world;
                    world.trace("read", this.id << 32 | count as u64, u64::from(checksum));
                    return Poll::Ready(Ok(()));
                }
                // It stays, for the next read.
                Item::End => return Poll::Ready(Ok(())),
                Item::Reset => {
                    state.is_reset[this.side] = true;
                    return Poll::Ready(Err(reset()));
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.process.has_ended() || self.wire.state().is_reset[self.side] {
            return Poll::Ready(Err(reset()));
        }
        if !self.process.runs_or_wakes(context.waker()) {
            return Poll::Pending;
        }
        self.wire.send(self.side, Item::Bytes(bytes.to_vec(), 0));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The end is sent when this is dropped, which comes next.
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The end of a process has ended its connections already.
        if !self.process.has_ended() {
            self.wire.leave(self.side, Item::End);
        }
    }
}
