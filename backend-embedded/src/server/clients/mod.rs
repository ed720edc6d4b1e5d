//! The clients of a server, and what each of them takes: one client must not keep the others out.

mod share;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use self::share::{CallCounts, Share};
pub(super) use self::usage::{InUse, Purpose, Usage};
use super::limits::ServerLimits;

/// The number of leading bits of an IPv6 address that identify a client. A host can usually take any
/// address of its network.
const NETWORK_BITS: u32 = 64;

/// The party to which the limits of one client apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Client {
    /// This user, or any user of this machine over a loopback address.
    Local,
    /// Another user of this machine.
    User(u32),
    /// An address, or a network of them.
    Address(IpAddr),
}

impl Client {
    /// Returns the client at an address.
    pub(super) fn at(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            ip if ip.is_loopback() => Client::Local,
            IpAddr::V4(ip) => Client::Address(ip.into()),
            IpAddr::V6(ip) => {
                let network = ip.to_bits() & (u128::MAX << NETWORK_BITS);
                Client::Address(Ipv6Addr::from_bits(network).into())
            }
        }
    }

    /// Returns the client that is a user of this machine.
    pub(super) fn user(uid: u32) -> Self {
        match uid == rustix::process::geteuid().as_raw() {
            true => Client::Local,
            false => Client::User(uid),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Local => f.write_str("local"),
            Client::User(uid) => write!(f, "user {uid}"),
            Client::Address(ip) => ip.fmt(f),
        }
    }
}

/// The clients of one server.
#[derive(Debug)]
pub(super) struct Clients {
    limits: ServerLimits,
    /// The number of connections.
    live: Arc<watch::Sender<usize>>,
    calls: Arc<CallCounts>,
    connections: Mutex<Vec<Weak<Usage>>>,
    shares: Mutex<BTreeMap<Client, Weak<Share>>>,
    refused_connections: AtomicU64,
    refused_calls: AtomicU64,
}

impl Clients {
    pub(super) fn new(limits: ServerLimits, live: Arc<watch::Sender<usize>>) -> Self {
        Clients {
            limits,
            live,
            calls: Arc::default(),
            connections: Mutex::default(),
            shares: Mutex::default(),
            refused_connections: AtomicU64::new(0),
            refused_calls: AtomicU64::new(0),
        }
    }

    pub(super) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// Returns the number of connections.
    pub(super) fn connections(&self) -> usize {
        *self.live.borrow()
    }

    /// Returns the number of calls under way, without those that keep sessions alive.
    pub(super) fn calls(&self) -> usize {
        self.calls.get(Purpose::Usual)
    }

    /// Returns how many connections and calls were refused because there were too many.
    pub(super) fn refused(&self) -> [(&'static str, u64); 2] {
        [
            (
                "connections",
                self.refused_connections.load(Ordering::Relaxed),
            ),
            ("streams", self.refused_calls.load(Ordering::Relaxed)),
        ]
    }

    /// Takes a slot for a connection of this client. At the limit of the client, its own connection
    /// that has been idle for longest gives way; at the limit of the server, that of any client. The
    /// other connection ends a moment later, so there may be one too many until then.
    ///
    /// # Errors
    /// The number of connections refused so far, if none is idle.
    pub(super) fn admit(&self, client: Client) -> Result<Slot, u64> {
        let share = self.share_of(client);
        let is_full =
            client != Client::Local && share.connections() >= self.limits.connections_of_client;
        let has_room = match is_full {
            true => self.cut_idlest(|usage| usage.client() == client),
            false => self.connections() < self.limits.connections || self.cut_idlest(|_| true),
        };
        if !has_room {
            return Err(self.refused_connections.fetch_add(1, Ordering::Relaxed) + 1);
        }
        Ok(Slot::take(&self.live, share))
    }

    /// Cuts the connection of these that has been idle for longest. Returns whether there was one.
    pub(super) fn cut_idlest(&self, of: impl Fn(&Usage) -> bool) -> bool {
        let all = lock(&self.connections);
        let idle = all.iter().filter_map(Weak::upgrade);
        let idle = idle.filter(|usage| of(usage));
        usage::cut_idlest(idle)
    }

    /// Adds a connection, which is idle, with its slot.
    pub(super) fn add(&self, slot: &Slot) -> Arc<Usage> {
        let usage = Arc::new(Usage::new(Arc::clone(&slot.share)));
        let mut all = lock(&self.connections);
        // The memory of those that have ended is given back now and then.
        if all.len() == all.capacity() {
            all.retain(|usage| usage.strong_count() > 0);
        }
        all.push(Arc::downgrade(&usage));
        usage
    }

    /// Counts a call on a connection until the guard is dropped; `None` if it is refused.
    ///
    /// A connection has no more calls than there are places left. So the first one leaves half of
    /// the places, and connections that begin calls in turns leave as many as each of them has. Those
    /// that come one after the other can still take nearly all.
    pub(super) fn begin_call(&self, usage: &Arc<Usage>, purpose: Purpose) -> Option<InUse> {
        let free = self.limits.streams.saturating_sub(self.calls.get(purpose));
        let is_crowded = usage.calls(purpose) >= free
            || usage.client() != Client::Local
                && usage.share().calls.get(purpose) >= self.limits.streams_of_client;
        if is_crowded {
            self.refused_calls.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(InUse::begin(usage, &self.calls, purpose))
    }

    fn share_of(&self, client: Client) -> Arc<Share> {
        let mut shares = lock(&self.shares);
        if let Some(share) = shares.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share::new(client));
        shares.insert(client, Arc::downgrade(&share));
        share
    }
}

/// The slot of one connection, released when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    live: Arc<watch::Sender<usize>>,
    share: Arc<Share>,
}

impl Slot {
    fn take(live: &Arc<watch::Sender<usize>>, share: Arc<Share>) -> Self {
        live.send_modify(|count| *count += 1);
        share.add_connection();
        Slot {
            live: Arc::clone(live),
            share,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.live.send_modify(|count| *count -= 1);
        self.share.remove_connection();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::usage::MIN_IDLE;
    use super::*;

    fn clients(limits: ServerLimits) -> Clients {
        Clients::new(limits, Arc::new(watch::Sender::new(0)))
    }

    fn at(address: &str) -> Client {
        Client::at(SocketAddr::new(address.parse().expect("an address"), 1))
    }

    #[test]
    fn an_address_is_a_client_and_so_is_a_network() {
        assert_eq!(at("127.0.0.9"), Client::Local);
        assert_eq!(at("::1"), Client::Local);
        assert_eq!(at("::ffff:127.0.0.1"), Client::Local);
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_at_its_limit_takes_only_its_own_places() {
        let limits = ServerLimits::default();
        let clients = clients(limits.with_connections(4).with_connections_of_client(2));
        let (greedy, other) = (at("192.0.2.1"), at("192.0.2.2"));
        let connect = |client| {
            let slot = clients.admit(client)?;
            let usage = clients.add(&slot);
            Ok::<_, u64>((slot, usage))
        };
        let first = connect(other).expect("room");
        let second = connect(greedy).expect("room");
        let third = connect(greedy).expect("room");
        assert_eq!(connect(greedy).expect_err("it has just come"), 1);
        tokio::time::advance(MIN_IDLE).await;
        let fourth = connect(greedy).expect("an idle one of its own gives way");
        assert!(second.1.is_cut() && !first.1.is_cut());
        drop((second, third));
        let locals = [(); 2].map(|()| connect(Client::Local).expect("room"));
        let fifth = connect(other).expect("the one that was idle for longest gives way");
        assert!(first.1.is_cut());
        assert_eq!(clients.connections(), 5, "it has not noticed yet");
        drop((first, fourth, fifth, locals));
        assert_eq!(clients.connections(), 0);
        assert_eq!(clients.refused(), [("connections", 1), ("streams", 0)]);
    }

    #[tokio::test]
    async fn calls_and_renewals_beyond_their_limits_are_refused_each_for_itself() {
        let limits = ServerLimits::default();
        let clients = clients(limits.with_streams(4).with_streams_of_client(2));
        let connect = |client| clients.add(&clients.admit(client).expect("room"));
        let greedy = connect(at("192.0.2.1"));
        let locals = [(); 2].map(|()| connect(Client::Local));
        let begin = |usage, purpose| clients.begin_call(usage, purpose);
        let mut calls: Vec<_> = [(); 2]
            .map(|()| begin(&greedy, Purpose::Usual).expect("room"))
            .into();
        assert!(begin(&greedy, Purpose::Usual).is_none(), "it has two");
        for local in &locals {
            calls.push(begin(&greedy, Purpose::Liveness).expect("room for a renewal"));
            calls.push(begin(local, Purpose::Usual).expect("room for others"));
        }
        assert!(begin(&greedy, Purpose::Liveness).is_none(), "it has two");
        assert!(
            begin(&locals[0], Purpose::Health).is_none(),
            "there are four"
        );
        for local in &locals {
            calls.push(begin(local, Purpose::Liveness).expect("room for a renewal"));
        }
        let refused = begin(&locals[0], Purpose::Liveness).is_none();
        assert!(refused, "there are four");
        assert_eq!(clients.refused(), [("connections", 0), ("streams", 4)]);
        drop(calls);
        assert_eq!(clients.calls(), 0);
        begin(&greedy, Purpose::Usual).expect("room again");
    }

    #[test]
    fn connections_that_begin_calls_in_turns_leave_places_for_another_one() {
        const GREEDY: usize = 9;
        let clients = clients(ServerLimits::default().with_streams(100));
        let connect = || clients.add(&clients.admit(Client::Local).expect("room"));
        let begin = |usage| clients.begin_call(usage, Purpose::Usual);
        let one = connect();
        let alone: Vec<_> = std::iter::from_fn(|| begin(&one)).collect();
        assert_eq!(alone.len(), 50, "half, if it is the only one");
        drop(alone);
        let greedy = [(); GREEDY].map(|()| connect());
        let mut calls = Vec::new();
        loop {
            let before = calls.len();
            calls.extend(greedy.iter().filter_map(begin));
            if calls.len() == before {
                break;
            }
        }
        assert_eq!(calls.len(), GREEDY * 100 / (GREEDY + 1));
        let another = connect();
        assert!(begin(&another).is_some());
    }
}
