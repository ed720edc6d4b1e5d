//! The end of the server: what is still answered, what is refused, and what clients are told.

use std::time::{Duration, Instant};

use backend_embedded::Limits;
use backend_embedded::server::BoundServer;
use etcd_client::LeaseGrantOptions;
use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbPutRequest, PbPutResponse, PbStatusRequest,
    PbStatusResponse,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::support::{Served, call, get_http, listen_for_metrics, refusal, soon, until};

/// A call whose request is sent later, and its answer.
struct Begun<Q, A> {
    request: mpsc::Sender<Q>,
    answer: JoinHandle<Result<A, Status>>,
}

impl<Q: 'static, A> Begun<Q, A> {
    async fn finish(self, request: Q) -> Result<A, Status> {
        self.request.send(request).await.expect("it is awaited");
        // The server answers when the request has ended.
        drop(self.request);
        soon("the answer", self.answer).await.expect("no panic")
    }
}

/// Begins a call. When this returns, the server knows of it.
async fn begin<Q, A>(channel: &Channel, path: &'static str) -> Begun<Q, A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let (request, mut requests) = mpsc::channel(1);
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("the channel is open");
    let answer = tokio::spawn(async move {
        let stream = futures_util::stream::poll_fn(move |cx| requests.poll_recv(cx));
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        let answered = client.client_streaming(Request::new(stream), path, codec);
        answered.await.map(tonic::Response::into_inner)
    });
    // Calls of a connection arrive in their order.
    tokio::task::yield_now().await;
    let status = call::<_, PbStatusResponse>(
        channel,
        "/etcdserverpb.Maintenance/Status",
        PbStatusRequest {},
    );
    status.await.expect("the server's status");
    Begun { request, answer }
}

#[tokio::test]
async fn answers_under_way_are_sent_and_holders_keep_their_time_meanwhile() {
    let (metrics, probes) = listen_for_metrics();
    let configure = |server: BoundServer| server.with_metrics(vec![metrics]);
    let mut served = Served::with(Limits::default(), configure);
    let channel = served.channel().await;
    let mut holder = served.client().await;
    let lease = LeaseGrantOptions::new().with_id(0xa);
    holder.lease_grant(300, Some(lease)).await.expect("granted");
    let (mut keeper, mut renewals) = holder.lease_keep_alive(0xa).await.expect("a stream");
    let mut health = HealthClient::new(served.channel().await);
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let watched = health.watch(request).await.expect("a stream");
    let mut watched = watched.into_inner();
    let mut next_health = async || {
        let told = soon("what the health is", watched.message()).await;
        told.map(|told| told.expect("the stream goes on").status())
    };
    assert_eq!(next_health().await.expect("told"), ServingStatus::Serving);
    let put: Begun<PbPutRequest, PbPutResponse> = begin(&channel, "/etcdserverpb.KV/Put").await;
    let grant: Begun<PbLeaseGrantRequest, PbLeaseGrantResponse> =
        begin(&channel, "/etcdserverpb.Lease/LeaseGrant").await;

    served.begin_to_stop();
    assert_eq!(
        next_health().await.expect("told"),
        ServingStatus::NotServing
    );
    let (status, text) = get_http(probes, "/readyz").await;
    assert_eq!((status, text.as_str()), (503, "the server is ending\n"));
    assert_eq!(get_http(probes, "/livez").await.0, 200);
    until("no connection is accepted", || async {
        tokio::net::TcpStream::connect(served.address)
            .await
            .is_err()
    })
    .await;

    let refused = grant.finish(PbLeaseGrantRequest { ttl: 60, id: 0xb });
    let refused = refused.await.expect_err("no new session");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.message(), "etcdserver: server stopped");
    let info = refused.get_details_retry_info().expect("when to try again");
    assert!(info.retry_delay >= Some(Duration::from_secs(1)), "{info:?}");
    // An answer is still under way, so the streams go on.
    keeper.keep_alive().await.expect("asked");
    let renewed = soon("a renewal", renewals.message())
        .await
        .expect("renewed");
    assert_eq!(renewed.expect("the stream goes on").ttl(), 300);

    let answer = put.finish(PbPutRequest {
        key: b"k".to_vec(),
        value: b"v".to_vec(),
        ..PbPutRequest::default()
    });
    answer.await.expect("the write is answered");
    let told = soon("the renewals' end", renewals.message()).await;
    let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(refusal(told), stopped);
    let told = next_health().await.expect_err("the stream ends");
    assert_eq!(told.code(), Code::Unavailable);
    served.ended().await;
    let state = served.coordinator.status();
    assert_eq!((state.keys, state.leases), (1, 1));
}

#[tokio::test]
async fn an_answer_that_takes_too_long_does_not_hold_up_the_end() {
    let limit = Duration::from_millis(50);
    let configure = |server: BoundServer| server.with_drain_limit(limit);
    let mut served = Served::with(Limits::default(), configure);
    let channel = served.channel().await;
    let put: Begun<PbPutRequest, PbPutResponse> = begin(&channel, "/etcdserverpb.KV/Put").await;
    let begun = Instant::now();
    served.begin_to_stop();
    served.ended().await;
    // Without the limit, it would be the request itself that takes no longer than ten seconds.
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    let answer = soon("the answer", put.answer).await.expect("no panic");
    answer.expect_err("cut off");
}
