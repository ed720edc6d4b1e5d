//! Calls as they are on the wire: bytes of any method, with any token.

use etcd_client::proto::PbAuthenticateResponse;
use futures_util::stream;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::PASSWORD;
use crate::support::soon;

/// Passes bytes through.
#[derive(Debug, Clone, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// Sends one message to a method, and returns the first one that comes back.
pub(super) async fn send(
    channel: &Channel,
    path: &str,
    token: Option<&str>,
    body: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("the channel is open");
    let mut request = Request::new(stream::iter([body]));
    if let Some(token) = token {
        let token = token.parse().expect("ASCII");
        request.metadata_mut().insert("token", token);
    }
    let route: PathAndQuery = path.parse().expect("a path");
    let answering = async {
        let mut answers = client.streaming(request, route, Bytes).await?.into_inner();
        let first = answers.message().await?;
        first.ok_or_else(|| Status::unknown("no message"))
    };
    soon(path, answering).await
}

/// Sends a message, and decodes the one that comes back.
pub(super) async fn ask<A: Message + Default>(
    channel: &Channel,
    path: &str,
    token: Option<&str>,
    request: impl Message,
) -> Result<A, Status> {
    let answer = send(channel, path, token, request.encode_to_vec()).await?;
    Ok(A::decode(answer.as_slice()).expect("an answer of this type"))
}

/// Shows a password, and returns the token.
pub(super) async fn log_in(channel: &Channel, user: &str) -> String {
    let answer = log_in_with(channel, user, PASSWORD).await;
    answer.expect("the password is right").token
}

pub(super) async fn log_in_with(
    channel: &Channel,
    user: &str,
    password: &str,
) -> Result<PbAuthenticateResponse, Status> {
    let request = etcd_client::proto::PbAuthenticateRequest {
        name: user.to_owned(),
        password: password.to_owned(),
    };
    ask(channel, "/etcdserverpb.Auth/Authenticate", None, request).await
}
