//! The gRPC server, tested by real clients (crate `etcd-client`, plain gRPC messages, Debian's
//! `etcdctl`) and compared with a real etcd.
#![cfg(feature = "server")]

mod access;
mod differential;
mod displaced;
mod drain;
mod etcdctl;
mod kv;
mod lease;
mod listen;
mod maintenance;
mod metrics;
mod queue;
mod snapshot;
mod support;
mod tls;
mod unimplemented;
mod watch;
