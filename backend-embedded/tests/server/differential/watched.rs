//! Everything that a watch of all keys delivers.

use etcd_client::proto::PbEvent;
use etcd_client::{Client, WatchOptions, WatchStream};
use tonic::transport::Channel;

use crate::support::soon;

/// A watch of all keys, from the first revision on.
pub struct Watched(WatchStream);

impl Watched {
    pub async fn start(channel: &Channel, prev_kv: bool) -> Self {
        let channel = etcd_client::Channel::Tonic(channel.clone());
        let mut client = Client::from_channel(channel, None).await.expect("a client");
        let mut options = WatchOptions::new().with_all_keys();
        if prev_kv {
            options = options.with_prev_key();
        }
        let mut stream = client.watch("", Some(options)).await.expect("a watch");
        let created = soon("its creation", stream.message()).await;
        assert!(created.expect("a response").expect("open").created());
        Self(stream)
    }

    /// Returns all events up to `revision`, which must have one.
    pub async fn up_to(&mut self, revision: i64) -> Vec<PbEvent> {
        let mut events: Vec<PbEvent> = Vec::new();
        let reached = |events: &[PbEvent]| {
            let last = events.last().and_then(|event| event.kv.as_ref());
            last.is_some_and(|kv| kv.mod_revision >= revision)
        };
        while !reached(&events) {
            let response = soon("events", self.0.message()).await;
            let response = response.expect("a response").expect("open");
            assert!(!response.canceled(), "{response:?}");
            events.extend(response.0.events);
        }
        events
    }
}
