//! What lies between each contender and each member: a proxy.

use std::time::Duration;

use conformance::Proxy;

/// A contender's connections to the cluster.
pub struct Links(Vec<Proxy>);

/// What is done to links.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// Nothing moves.
    Silence,
    /// Everything takes this long, each way.
    Delay(Duration),
    /// What the server answers on the present connections is lost; when it ends, they are cut.
    Swallow,
    /// The present connections are cut, at once.
    Cut,
}

impl Links {
    /// To members at these addresses.
    pub fn to(addresses: impl IntoIterator<Item = String>) -> Self {
        Links(addresses.into_iter().map(Proxy::start).collect())
    }

    /// The addresses at which the contender reaches the members.
    pub fn addresses(&self) -> Vec<String> {
        self.0.iter().map(Proxy::address).collect()
    }

    /// Begins a trouble on the link to this member, or on all.
    pub fn begin(&self, member: Option<usize>, trouble: Trouble) {
        for proxy in self.chosen(member) {
            match trouble {
                Trouble::Silence => proxy.silence(),
                Trouble::Delay(delay) => proxy.delay(delay),
                Trouble::Swallow => proxy.mute(),
                Trouble::Cut => proxy.cut(),
            }
        }
    }

    /// Ends it.
    pub fn end(&self, member: Option<usize>, trouble: Trouble) {
        for proxy in self.chosen(member) {
            match trouble {
                Trouble::Silence => proxy.resume(),
                Trouble::Delay(_) => proxy.delay(Duration::ZERO),
                Trouble::Swallow => proxy.cut(),
                Trouble::Cut => {}
            }
        }
    }

    fn chosen(&self, member: Option<usize>) -> impl Iterator<Item = &Proxy> {
        let chosen = move |(number, _): &(usize, &Proxy)| member.is_none_or(|m| m == *number);
        self.0.iter().enumerate().filter(chosen).map(|(_, p)| p)
    }
}
