//! A client and a server that are given their connections by the program hold a lock together.

use std::io;
use std::sync::{Arc, Mutex};

use backend_embedded::server::Server;
use backend_embedded::{Coordinator, Limits};
use backend_etcd::{Config, Connecting, Connection, Connector, EtcdBackend};
use futures_util::stream;
use lock_core::{ErrorKind, Locks, Options};
use tokio::sync::mpsc;

type Listener = mpsc::UnboundedSender<io::Result<Box<dyn Connection>>>;

/// Connects within the process, for as long as there is a server.
struct InProcess(Mutex<Option<Listener>>);

impl Connector for InProcess {
    fn connect(&self, address: &str) -> Connecting {
        assert_eq!(address, "nowhere:2379");
        let (client, server) = tokio::io::duplex(64 * 1024);
        let listener = self.0.lock().expect("no panic");
        let sent = listener
            .as_ref()
            .map(|listener| listener.send(Ok(Box::new(server))));
        let is_open = matches!(sent, Some(Ok(())));
        Box::pin(async move {
            match is_open {
                true => Ok(Box::new(client) as Box<dyn Connection>),
                false => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

#[tokio::test]
async fn a_lock_is_held_over_connections_that_the_program_makes() {
    let coordinator = Coordinator::in_memory(Limits::default()).expect("a thread");
    let (listener, mut accepted) = mpsc::unbounded_channel();
    let connections = stream::poll_fn(move |context| accepted.poll_recv(context));
    let server = Server::with_connections(coordinator, connections);
    assert!(server.addresses().is_empty());
    let serving = tokio::spawn(server.serve(std::future::pending()));
    let connector = Arc::new(InProcess(Mutex::new(Some(listener))));
    let config = Config::tcp(["nowhere"]).expect("an address");
    let backend = EtcdBackend::new(config.with_connector(connector.clone())).expect("no TLS");
    let locks = Locks::new(backend, Options::default()).expect("valid options");
    let mutex = locks.mutex("a").expect("a valid name");
    let guard = mutex.acquire().await.expect("it is free");
    assert!(mutex.try_acquire().await.expect("it is served").is_none());
    let _ = guard.release().await.expect("it is held");
    // What the connector cannot connect to is out of reach.
    connector.0.lock().expect("no panic").take();
    serving.abort();
    let _ = serving.await;
    let error = mutex.try_acquire().await.expect_err("nobody serves");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}
