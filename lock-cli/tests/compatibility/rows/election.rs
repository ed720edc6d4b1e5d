//! The rows about elections.

use super::{limited, same};
use crate::probe::Probe;

pub const ELECTION: &[Probe] = &[
    same(
        "Election.Campaign",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
        ],
    ),
    same(
        "CampaignRequest.name",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Leader name: '$K'",
        ],
    ),
    limited(
        "CampaignRequest.lease",
        "an unknown lease is `NOT_FOUND`, and not `UNKNOWN`",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Lease.LeaseTimeToLive ID: $L keys: true",
            "Election.Campaign name: '$Kb' lease: 7",
        ],
    ),
    same(
        "CampaignRequest.value",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "KV.Range key: '$K/$H'",
        ],
    ),
    same(
        "Election.Proclaim",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
            "KV.Range key: '$K/$H'",
        ],
    ),
    same(
        "ProclaimRequest.leader",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
            "Election.Proclaim value: 'still'",
        ],
    ),
    same(
        "LeaderKey.name",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
        ],
    ),
    same(
        "LeaderKey.key",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/0' rev: $1 lease: $L } value: 'still'",
        ],
    ),
    same(
        "LeaderKey.rev",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $2 lease: $L } value: 'still'",
        ],
    ),
    limited(
        "LeaderKey.lease",
        "an unknown lease is `NOT_FOUND`, and not `UNKNOWN`",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: 7 } value: 'still'",
        ],
    ),
    same(
        "ProclaimRequest.value",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
            "Election.Leader name: '$K'",
        ],
    ),
    same(
        "Election.Leader",
        &[
            "Election.Leader name: '$K'",
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Leader name: '$K'",
        ],
    ),
    same("LeaderRequest.name", &["Election.Leader name: '$K'"]),
    same(
        "Election.Observe",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "1 Election.Observe name: '$K'",
        ],
    ),
    same(
        "Election.Resign",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Resign leader { name: '$K' key: '$K/$H' rev: $1 lease: $L }",
            "Election.Leader name: '$K'",
        ],
    ),
    same(
        "ResignRequest.leader",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Resign leader { name: '$K' key: '$K/$H' rev: $2 lease: $L }",
            "Election.Resign",
        ],
    ),
];
