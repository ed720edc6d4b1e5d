//! The services, and the largest message that each of them takes.

use std::sync::Arc;

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer,
};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use super::state::State;
use super::{
    MAX_MESSAGE_BYTES, auth, cluster, election, health, kv, lease, lock, maintenance, proto, watch,
};

/// The largest message of those who have not said who they are, in bytes: a name and a password.
const MAX_STRANGERS_MESSAGE_BYTES: usize = 4 * 1024;

/// Returns all services of a server.
pub(super) fn routes(state: &Arc<State>) -> Routes {
    let state = || Arc::clone(state);
    let max = MAX_MESSAGE_BYTES;
    let kv = PbKvServer::new(kv::Kv(state()));
    let watch = PbWatchServer::new(watch::Watch(state()));
    let lease = PbLeaseServer::new(lease::Lease(state()));
    let cluster = PbClusterServer::new(cluster::Cluster(state()));
    let maintenance = PbMaintenanceServer::new(maintenance::Maintenance(state()));
    let lock = proto::LockServer::new(lock::Lock(state()));
    let election = proto::ElectionServer::new(election::Election(state()));
    let auth = proto::AuthServer::new(auth::Auth(state()));
    let health = HealthServer::new(health::Health(state()));
    Routes::new(kv.max_decoding_message_size(max))
        .add_service(watch.max_decoding_message_size(max))
        .add_service(lease.max_decoding_message_size(max))
        .add_service(cluster.max_decoding_message_size(max))
        .add_service(maintenance.max_decoding_message_size(max))
        .add_service(lock.max_decoding_message_size(max))
        .add_service(election.max_decoding_message_size(max))
        .add_service(auth.max_decoding_message_size(MAX_STRANGERS_MESSAGE_BYTES))
        .add_service(health.max_decoding_message_size(MAX_STRANGERS_MESSAGE_BYTES))
        .prepare()
}
