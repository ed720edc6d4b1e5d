//! Implements the proxies between each contender and each member.

use std::time::Duration;

use conformance::Proxy;

/// A contender's connections to the cluster.
pub struct Links(Vec<Proxy>);

/// The faults of links.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// No byte moves.
    Silence,
    /// Each byte takes this long, in each direction.
    Delay(Duration),
    /// The server's replies on the present connections are lost. When the fault ends, the
    /// connections are cut.
    Swallow,
    /// The present connections are cut at once.
    Cut,
}

impl Links {
    /// Makes links to members at these addresses.
    pub fn to(addresses: impl IntoIterator<Item = String>) -> Self {
        Links(addresses.into_iter().map(Proxy::start).collect())
    }

    /// Returns the addresses at which the contender reaches the members.
    pub fn addresses(&self) -> Vec<String> {
        self.0.iter().map(Proxy::address).collect()
    }

    /// Begins a fault on the link to this member, or on all links.
    pub fn begin(&self, member: Option<usize>, trouble: Trouble) {
        for proxy in self.select_proxies(member) {
            match trouble {
                Trouble::Silence => proxy.silence(),
                Trouble::Delay(delay) => proxy.delay(delay),
                Trouble::Swallow => proxy.mute(),
                Trouble::Cut => proxy.cut(),
            }
        }
    }

    /// Ends the fault.
    pub fn end(&self, member: Option<usize>, trouble: Trouble) {
        for proxy in self.select_proxies(member) {
            match trouble {
                Trouble::Silence => proxy.resume(),
                Trouble::Delay(_) => proxy.delay(Duration::ZERO),
                Trouble::Swallow => proxy.cut(),
                Trouble::Cut => {}
            }
        }
    }

    fn select_proxies(&self, member: Option<usize>) -> impl Iterator<Item = &Proxy> {
        let chosen = move |(number, _): &(usize, &Proxy)| member.is_none_or(|m| m == *number);
        self.0.iter().enumerate().filter(chosen).map(|(_, p)| p)
    }
}
