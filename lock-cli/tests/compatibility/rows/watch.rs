//! The rows about watches.

use super::{limited, same};
use crate::probe::Probe;

pub const WATCH: &[Probe] = &[
    same(
        "Watch.Watch",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 }",
        ],
    ),
    same(
        "WatchRequest.create_request",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$Ka' start_revision: $1 }",
            "Watch.Watch create_request { key: '$Ka' }",
        ],
    ),
    same(
        "WatchCreateRequest.key",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$Ka' start_revision: $1 }",
            "Watch.Watch create_request { start_revision: $1 }",
        ],
    ),
    same(
        "WatchCreateRequest.range_end",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 }",
            "Watch.Watch create_request { key: '$Kb' range_end: '$Ka' }",
        ],
    ),
    limited(
        "WatchCreateRequest.start_revision",
        "as far back as the [history](limits.md) goes; of what was before a restart, the last change of each key",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Put key: '$Kb' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $2 }",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: 1 }",
        ],
    ),
    same(
        "WatchCreateRequest.progress_notify",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 progress_notify: true }",
        ],
    ),
    same(
        "WatchCreateRequest.filters",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 filters: NODELETE }",
            "KV.DeleteRange key: '$Ka'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 filters: NOPUT }",
        ],
    ),
    same(
        "WatchCreateRequest.prev_kv",
        &[
            "KV.Put key: '$Ka' value: '1'",
            "KV.Put key: '$Ka' value: '2'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $2 prev_kv: true }",
        ],
    ),
    same(
        "WatchCreateRequest.watch_id",
        &[
            "1 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 }",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; create_request { key: '$Kb' watch_id: 7 }",
        ],
    ),
    same(
        "WatchCreateRequest.fragment",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 fragment: true }",
        ],
    ),
    same(
        "WatchRequest.cancel_request",
        &[
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; cancel_request { watch_id: 7 }",
        ],
    ),
    same(
        "WatchCancelRequest.watch_id",
        &[
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; cancel_request { watch_id: 8 } ; cancel_request { watch_id: 7 }",
        ],
    ),
    same(
        "WatchRequest.progress_request",
        &[
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; progress_request { }",
        ],
    ),
];
