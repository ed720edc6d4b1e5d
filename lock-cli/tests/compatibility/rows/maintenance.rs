//! The rows about the members and the maintenance of the store.

use super::{limited, refused, same};
use crate::probe::Probe;

pub const CLUSTER: &[Probe] = &[
    refused(
        "Cluster.MemberAdd",
        "there is one member",
        &["Cluster.MemberAdd peerURLs: ':'"],
    ),
    refused(
        "Cluster.MemberRemove",
        "there is one member",
        &["Cluster.MemberRemove ID: 1"],
    ),
    refused(
        "Cluster.MemberUpdate",
        "there is one member",
        &["Cluster.MemberUpdate ID: 1 peerURLs: ':'"],
    ),
    limited(
        "Cluster.MemberList",
        "one member, without addresses for other members",
        &["Cluster.MemberList?"],
    ),
    limited(
        "MemberListRequest.linearizable",
        "ignored",
        &["Cluster.MemberList? linearizable: true"],
    ),
    refused(
        "Cluster.MemberPromote",
        "there is one member",
        &["Cluster.MemberPromote ID: 1"],
    ),
];

pub const MAINTENANCE: &[Probe] = &[
    limited(
        "Maintenance.Alarm",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: DEACTIVATE",
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: GET",
        ],
    ),
    limited(
        "AlarmRequest.action",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm",
        ],
    ),
    limited(
        "AlarmRequest.memberID",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm",
        ],
    ),
    limited(
        "AlarmRequest.alarm",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm",
        ],
    ),
    limited(
        "Maintenance.Status",
        "the revision stands in for the raft index; the version also names Turnlock's",
        &["Maintenance.Status"],
    ),
    same("Maintenance.Defragment", &["Maintenance.Defragment"]),
    limited(
        "Maintenance.Hash",
        "the hash covers our own file format",
        &["Maintenance.Hash"],
    ),
    limited(
        "Maintenance.HashKV",
        "another hash than that of etcd",
        &["KV.Put key: '$Ka' value: 'v'", "Maintenance.HashKV"],
    ),
    limited(
        "HashKVRequest.revision",
        "another hash than that of etcd",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "Maintenance.HashKV revision: $1",
        ],
    ),
    limited(
        "Maintenance.Snapshot",
        "a file for `turnlock restore`, in another format",
        &["Maintenance.Snapshot?"],
    ),
    same(
        "Maintenance.MoveLeader",
        &["Maintenance.MoveLeader targetID: $M"],
    ),
    same(
        "MoveLeaderRequest.targetID",
        &[
            "Maintenance.MoveLeader targetID: $M",
            "Maintenance.MoveLeader targetID: 1",
        ],
    ),
    refused(
        "Maintenance.Downgrade",
        "etcd 3.5 has it",
        &["Maintenance.Downgrade"],
    ),
];
