//! A client that keeps to HTTP/2 and to nothing else.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

/// Long enough for a server under attack.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to the server.
pub struct Attacker {
    requests: SendRequest<Bytes>,
    address: String,
}

/// A call that was begun.
pub struct Call {
    pub answer: ResponseFuture,
    pub stream: SendStream<Bytes>,
}

impl Attacker {
    /// Connects. The server may send this many bytes for each answer until more is taken.
    pub async fn connect(address: &str, window: u32) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_max_send_streams(100_000)
            // It does not mind small pieces that it does not take.
            .data_frame_budget(usize::MAX)
            .handshake(socket)
            .await
            .expect("HTTP/2");
        tokio::spawn(async move {
            // The server may well end it.
            let _ = connection.await;
        });
        Attacker {
            requests,
            address: address.to_owned(),
        }
    }

    /// Begins a call, if the server still takes calls on this connection.
    pub async fn call(&self, method: &str) -> Option<Call> {
        self.call_path(&format!("/etcdserverpb.{method}")).await
    }

    /// Begins a call of any service.
    pub async fn call_path(&self, path: &str) -> Option<Call> {
        let request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let mut requests = self.requests.clone().ready().await.ok()?;
        let (answer, stream) = requests.send_request(request, false).ok()?;
        Some(Call { answer, stream })
    }

    /// Sends the only request of a call.
    pub async fn ask(&self, method: &str, request: &impl Message) -> Option<ResponseFuture> {
        let mut call = self.call(method).await?;
        call.stream.send_data(framed(request), true).ok()?;
        Some(call.answer)
    }
}

/// Puts the length of a message before it.
pub fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short");
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// Returns what stands before a message of this length.
pub fn announced(length: u32) -> Bytes {
    let mut prefix = vec![0];
    prefix.extend(length.to_be_bytes());
    prefix.into()
}

/// Waits for the head of an answer. Returns its body, and the status if it came without one.
pub async fn head(answer: ResponseFuture) -> Option<(RecvStream, Option<Status>)> {
    let answer = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
    let status = Status::from_header_map(answer.headers());
    Some((answer.into_body(), status))
}

/// Takes a whole answer, and returns the number of its status.
pub async fn status(answer: ResponseFuture) -> Option<String> {
    whole_status(answer).await.map(|status| number(&status))
}

/// Returns gRPC's number of a status.
pub fn number(status: &Status) -> String {
    i32::from(status.code()).to_string()
}

/// Takes a whole answer, and returns its status with the text.
pub async fn whole_status(answer: ResponseFuture) -> Option<Status> {
    match head(answer).await? {
        (_, Some(status)) => Some(status),
        (body, None) => rest(body).await,
    }
}

/// Takes the rest of an answer, and returns its status.
pub async fn rest(mut body: RecvStream) -> Option<Status> {
    let taken = async {
        while let Some(Ok(piece)) = body.data().await {
            body.flow_control().release_capacity(piece.len()).ok()?;
        }
        Status::from_header_map(&body.trailers().await.ok()??)
    };
    tokio::time::timeout(PATIENCE, taken).await.ok()?
}
