//! Splits watch responses that are too large for a message.

use etcd_client::proto::PbWatchResponse;
use prost::Message;

/// Splits a response whose message would exceed `limit` bytes. An event is never split.
pub(super) fn split_response(response: PbWatchResponse, limit: usize) -> Vec<PbWatchResponse> {
    if response.encoded_len() <= limit {
        return vec![response];
    }
    let empty = PbWatchResponse {
        events: Vec::new(),
        fragment: true,
        ..response.clone()
    };
    let overhead = empty.encoded_len();
    let mut parts = vec![empty.clone()];
    let mut size = overhead;
    for event in response.events {
        // The tag and the length of an embedded message: at most 1 + 5 bytes.
        let event_size = event.encoded_len() + 6;
        if let Some(part) = parts.last_mut()
            && (part.events.is_empty() || size + event_size <= limit)
        {
            part.events.push(event);
            size += event_size;
            continue;
        }
        parts.push(PbWatchResponse {
            events: vec![event],
            ..empty.clone()
        });
        size = overhead + event_size;
    }
    if let Some(last) = parts.last_mut() {
        last.fragment = false;
    }
    parts
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::{PbEvent, PbKeyValue};

    use super::*;

    fn response(sizes: &[usize]) -> PbWatchResponse {
        let events = sizes.iter().map(|&size| PbEvent {
            kv: Some(PbKeyValue {
                value: vec![b'v'; size],
                ..PbKeyValue::default()
            }),
            ..PbEvent::default()
        });
        PbWatchResponse {
            watch_id: 3,
            events: events.collect(),
            ..PbWatchResponse::default()
        }
    }

    #[test]
    fn a_large_revision_is_split_and_only_the_last_part_is_not_marked() {
        let whole = response(&[400, 400, 400, 2000, 10]);
        let parts = split_response(whole.clone(), 1000);
        let marks: Vec<bool> = parts.iter().map(|part| part.fragment).collect();
        assert_eq!(marks, [true, true, true, false]);
        for part in &parts {
            assert!(part.encoded_len() <= 1000 || part.events.len() == 1);
            assert_eq!(part.watch_id, 3);
        }
        let events: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
        assert_eq!(events, whole.events);
    }

    #[test]
    fn a_small_response_is_sent_whole() {
        let whole = response(&[100, 100]);
        assert_eq!(split_response(whole.clone(), 1000), [whole]);
    }
}
