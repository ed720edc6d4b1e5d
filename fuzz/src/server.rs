//! A server in memory, and a client that sends it whatever bytes it likes.

use std::future::poll_fn;
use std::io;

use backend_embedded::server::{Connection, Server};
use backend_embedded::{Coordinator, Limits};
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream};
use h2::RecvStream;
use h2::client::SendRequest;
use http::Request;

/// All methods, and one that there is not.
pub const METHODS: [&str; 37] = [
    "etcdserverpb.KV/Range",
    "etcdserverpb.KV/RangeStream",
    "etcdserverpb.KV/Put",
    "etcdserverpb.KV/DeleteRange",
    "etcdserverpb.KV/Txn",
    "etcdserverpb.KV/Compact",
    "etcdserverpb.Watch/Watch",
    "etcdserverpb.Lease/LeaseGrant",
    "etcdserverpb.Lease/LeaseRevoke",
    "etcdserverpb.Lease/LeaseKeepAlive",
    "etcdserverpb.Lease/LeaseTimeToLive",
    "etcdserverpb.Lease/LeaseLeases",
    "etcdserverpb.Cluster/MemberAdd",
    "etcdserverpb.Cluster/MemberList",
    "etcdserverpb.Cluster/MemberRemove",
    "etcdserverpb.Maintenance/Alarm",
    "etcdserverpb.Maintenance/Status",
    "etcdserverpb.Maintenance/Defragment",
    "etcdserverpb.Maintenance/Hash",
    "etcdserverpb.Maintenance/HashKV",
    "etcdserverpb.Maintenance/Snapshot",
    "etcdserverpb.Maintenance/MoveLeader",
    "etcdserverpb.Maintenance/Downgrade",
    "etcdserverpb.Auth/Authenticate",
    "etcdserverpb.Auth/AuthStatus",
    "etcdserverpb.Auth/UserAdd",
    "v3lockpb.Lock/Lock",
    "v3lockpb.Lock/Unlock",
    "v3electionpb.Election/Campaign",
    "v3electionpb.Election/Proclaim",
    "v3electionpb.Election/Leader",
    "v3electionpb.Election/Observe",
    "v3electionpb.Election/Resign",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.health.v1.Health/List",
    "etcdserverpb.KV/Nothing",
];

/// The methods whose calls may go on for as long as they like.
const WAITING: [&str; 6] = [
    "etcdserverpb.Watch/Watch",
    "etcdserverpb.Lease/LeaseKeepAlive",
    "v3lockpb.Lock/Lock",
    "v3electionpb.Election/Campaign",
    "v3electionpb.Election/Observe",
    "grpc.health.v1.Health/Watch",
];

/// How often the server has its turn while such a call is looked at.
const TURNS: usize = 64;

/// How a call ended.
#[derive(Debug, Default)]
pub struct Answer {
    /// The status of gRPC; `None` if the call was given up.
    pub status: Option<String>,
    /// The text beside it.
    pub message: String,
    /// The messages, each in its frame.
    pub body: Vec<u8>,
}

/// Returns a body with these messages.
///
/// # Panics
/// If a message is too long.
pub fn frame<M: AsRef<[u8]>>(messages: impl IntoIterator<Item = M>) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages {
        let message = message.as_ref();
        let length = u32::try_from(message.len()).expect("a short message");
        body.push(0);
        body.extend(length.to_be_bytes());
        body.extend(message);
    }
    body
}

/// Makes calls, one after the other, of a server in which nothing has been written. Each is the number
/// of a method and the body of the request.
///
/// # Panics
/// If the server does not answer.
pub fn call(calls: impl IntoIterator<Item = (usize, Vec<u8>)>) -> Vec<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
    let answers = runtime.block_on(async {
        let (near, far) = tokio::io::duplex(64 << 10);
        let far: Box<dyn Connection> = Box::new(far);
        let connections = stream::iter([io::Result::Ok(far)]).chain(stream::pending());
        let server = Server::with_connections(coordinator.clone(), connections);
        tokio::spawn(server.serve(std::future::pending()));
        let (mut client, connection) = h2::client::handshake(near).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for (method, body) in calls {
            answers.push(call_one(&mut client, METHODS[method], body).await);
        }
        answers
    });
    drop(runtime);
    coordinator.close().expect("it closes");
    answers
}

async fn call_one(client: &mut SendRequest<Bytes>, method: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(format!("http://localhost/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    poll_fn(|context| client.poll_ready(context))
        .await
        .expect("the connection is open");
    let (answer, mut stream) = client.send_request(request, false).expect("it is open");
    stream
        .send_data(body.into(), true)
        .expect("the call has begun");
    let finish = async {
        let (head, body) = answer.await.expect("an answer").into_parts();
        let mut answer = Answer::default();
        take_status(&mut answer, &head.headers);
        take_body(&mut answer, body).await;
        answer
    };
    if !WAITING.contains(&method) {
        return finish.await;
    }
    let give_up = async {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        answer = finish => answer,
        () = give_up => Answer::default(),
    }
}

fn take_status(answer: &mut Answer, headers: &http::HeaderMap) {
    let text = |name: &str| {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    if let Some(status) = text("grpc-status") {
        answer.status = Some(status);
        answer.message = text("grpc-message").unwrap_or_default();
    }
}

async fn take_body(answer: &mut Answer, mut body: RecvStream) {
    while let Some(piece) = body.data().await {
        let piece = piece.expect("the answer is whole");
        answer.body.extend(piece.chunk());
        body.flow_control()
            .release_capacity(piece.len())
            .expect("it was taken");
    }
    if let Some(trailers) = body.trailers().await.expect("the answer is whole") {
        take_status(answer, &trailers);
    }
}
