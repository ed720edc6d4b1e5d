//! The limits of what clients take from a server, apart from what they take from its coordinator.

/// Bounds on what the clients of one server have at once. Those on what the coordinator keeps are
/// [`Limits`](crate::Limits).
///
/// A client is an address (of IPv6 the first 64 bits), or another user of this machine. The user of
/// the server, and connections over a loopback address, count only in the limits for all.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use backend_embedded::server::{Server, ServerLimits};
/// use backend_embedded::{Coordinator, Limits};
///
/// let coordinator = Coordinator::in_memory(Limits::default())?;
/// let limits = ServerLimits::default().with_connections(10_000);
/// let server = Server::bind(coordinator, vec!["127.0.0.1:0".parse()?])?.with_limits(limits);
/// # drop(server);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// The number of connections (default 4,096). A further one takes the place of one that is idle.
    /// If there is none, it is closed as soon as it is accepted, which a gRPC client reports as
    /// `UNAVAILABLE` and retries.
    pub connections: usize,
    /// The number of connections of one client (default 2,048). A further one takes the place of one
    /// of the same client.
    pub connections_of_client: usize,
    /// The number of calls under way, streams among them (default 16,384). A further one is refused
    /// with `RESOURCE_EXHAUSTED`. Renewals and revocations of leases are counted apart, and there may
    /// be as many of them.
    pub streams: usize,
    /// The number of calls under way of one client (default 8,192).
    pub streams_of_client: usize,
    /// Bytes of all requests under way (default 64 MiB). A request counts with what has come of it. A
    /// further one is refused with `RESOURCE_EXHAUSTED`.
    pub request_bytes: usize,
    /// Bytes of all answers that clients have not taken (default 128 MiB). Answers up to 4 KiB do not
    /// count. A further one waits for ten seconds, then it is refused with `RESOURCE_EXHAUSTED`.
    pub answer_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_of_client: 2_048,
            streams: 16_384,
            streams_of_client: 8_192,
            request_bytes: 64 << 20,
            answer_bytes: 128 << 20,
        }
    }
}

impl ServerLimits {
    /// Sets [`connections`](Self::connections).
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets [`connections_of_client`](Self::connections_of_client).
    #[must_use]
    pub fn with_connections_of_client(mut self, connections: usize) -> Self {
        self.connections_of_client = connections;
        self
    }

    /// Sets [`streams`](Self::streams).
    #[must_use]
    pub fn with_streams(mut self, streams: usize) -> Self {
        self.streams = streams;
        self
    }

    /// Sets [`streams_of_client`](Self::streams_of_client).
    #[must_use]
    pub fn with_streams_of_client(mut self, streams: usize) -> Self {
        self.streams_of_client = streams;
        self
    }

    /// Sets [`request_bytes`](Self::request_bytes).
    #[must_use]
    pub fn with_request_bytes(mut self, bytes: usize) -> Self {
        self.request_bytes = bytes;
        self
    }

    /// Sets [`answer_bytes`](Self::answer_bytes).
    #[must_use]
    pub fn with_answer_bytes(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }
}
