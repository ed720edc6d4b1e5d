//! Errors, with the codes and texts that etcd's clients compare, and methods that are refused by
//! name.

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbCompactionRequest, PbCompactionResponse, PbCompare,
    PbDeleteRequest, PbDeleteResponse, PbLeaseGrantRequest, PbLeaseGrantResponse,
    PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbPutRequest, PbPutResponse, PbRangeRequest,
    PbRangeResponse, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::{Served, call};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";

fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err(text);
    assert_eq!((status.code(), status.message()), (code, text));
}

async fn range_refused(channel: &Channel, request: PbRangeRequest, code: Code, text: &str) {
    assert_refused(
        call::<_, PbRangeResponse>(channel, RANGE, request).await,
        code,
        text,
    );
}

async fn put_refused(channel: &Channel, request: PbPutRequest, code: Code, text: &str) {
    assert_refused(
        call::<_, PbPutResponse>(channel, PUT, request).await,
        code,
        text,
    );
}

async fn txn_refused(channel: &Channel, request: PbTxnRequest, text: &str) {
    let refusal = call::<_, PbTxnResponse>(channel, TXN, request).await;
    assert_refused(refusal, Code::InvalidArgument, text);
}

fn put_op(key: &str) -> PbTxnRequestOp {
    PbTxnRequestOp {
        request: Some(PbTxnOpRequest::RequestPut(PbPutRequest {
            key: key.into(),
            ..PbPutRequest::default()
        })),
    }
}

#[tokio::test]
async fn ranges_are_refused_as_etcd_does() {
    let served = Served::start();
    let channel = served.channel().await;
    for _ in 0..3 {
        let put = PbPutRequest {
            key: "k".into(),
            ..PbPutRequest::default()
        };
        call::<_, PbPutResponse>(&channel, PUT, put)
            .await
            .expect("put");
    }
    let range = || PbRangeRequest {
        key: "k".into(),
        ..PbRangeRequest::default()
    };

    let text = "etcdserver: key is not provided";
    range_refused(
        &channel,
        PbRangeRequest::default(),
        Code::InvalidArgument,
        text,
    )
    .await;
    let text = "etcdserver: invalid sort option";
    let request = PbRangeRequest {
        sort_order: 3,
        ..range()
    };
    range_refused(&channel, request, Code::InvalidArgument, text).await;
    let request = PbRangeRequest {
        sort_target: 5,
        ..range()
    };
    range_refused(&channel, request, Code::InvalidArgument, text).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    let request = PbRangeRequest {
        revision: 1000,
        ..range()
    };
    range_refused(&channel, request, Code::OutOfRange, text).await;
    let text = "etcdserver: mvcc: required revision has been compacted";
    let compact = PbCompactionRequest {
        revision: 3,
        physical: false,
    };
    call::<_, PbCompactionResponse>(&channel, COMPACT, compact)
        .await
        .expect("compacted");
    let request = PbRangeRequest {
        revision: 2,
        ..range()
    };
    range_refused(&channel, request, Code::OutOfRange, text).await;
    served.stop().await;
}

#[tokio::test]
async fn writes_are_refused_as_etcd_does() {
    let served = Served::start();
    let channel = served.channel().await;
    let put = || PbPutRequest {
        key: "k".into(),
        ..PbPutRequest::default()
    };
    let invalid = Code::InvalidArgument;

    let request = PbPutRequest::default();
    put_refused(
        &channel,
        request,
        invalid,
        "etcdserver: key is not provided",
    )
    .await;
    let request = PbPutRequest {
        ignore_value: true,
        value: "v".into(),
        ..put()
    };
    put_refused(&channel, request, invalid, "etcdserver: value is provided").await;
    let request = PbPutRequest {
        ignore_lease: true,
        lease: 5,
        ..put()
    };
    put_refused(&channel, request, invalid, "etcdserver: lease is provided").await;
    let request = PbPutRequest {
        ignore_value: true,
        ..put()
    };
    put_refused(&channel, request, invalid, "etcdserver: key not found").await;
    let request = PbPutRequest { lease: 5, ..put() };
    let text = "etcdserver: requested lease not found";
    put_refused(&channel, request, Code::NotFound, text).await;
    let request = PbPutRequest { lease: -5, ..put() };
    put_refused(&channel, request, Code::NotFound, text).await;
    let request = PbPutRequest {
        value: vec![b'v'; 1536 * 1024],
        ..put()
    };
    put_refused(
        &channel,
        request,
        invalid,
        "etcdserver: request is too large",
    )
    .await;
    let request = PbPutRequest {
        value: vec![b'v'; 3 << 20],
        ..put()
    };
    let status = call::<_, PbPutResponse>(&channel, PUT, request)
        .await
        .expect_err("a message of 3 MiB");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");

    let deleted = call::<_, PbDeleteResponse>(&channel, DELETE, PbDeleteRequest::default()).await;
    assert_refused(deleted, invalid, "etcdserver: key is not provided");

    let request = PbCompactionRequest {
        revision: 1000,
        physical: true,
    };
    let compacted = call::<_, PbCompactionResponse>(&channel, COMPACT, request).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(compacted, Code::OutOfRange, text);

    assert_eq!(served.coordinator.status().keys, 0, "a refused write wrote");
    served.stop().await;
}

#[tokio::test]
async fn transactions_are_refused_as_etcd_does() {
    let served = Served::start();
    let channel = served.channel().await;

    let request = PbTxnRequest {
        success: (0..129).map(|number| put_op(&number.to_string())).collect(),
        ..PbTxnRequest::default()
    };
    let text = "etcdserver: too many operations in txn request";
    txn_refused(&channel, request, text).await;
    let request = PbTxnRequest {
        success: vec![put_op("a"), put_op("b"), put_op("a")],
        ..PbTxnRequest::default()
    };
    let text = "etcdserver: duplicate key given in txn request";
    txn_refused(&channel, request.clone(), text).await;
    let request = PbTxnRequest {
        failure: request.success,
        ..PbTxnRequest::default()
    };
    txn_refused(&channel, request, text).await;
    let request = PbTxnRequest {
        compare: vec![PbCompare::default()],
        ..PbTxnRequest::default()
    };
    txn_refused(&channel, request, "etcdserver: key is not provided").await;
    let request = PbTxnRequest {
        success: vec![PbTxnRequestOp { request: None }],
        ..PbTxnRequest::default()
    };
    txn_refused(&channel, request, "etcdserver: key not found").await;
    let request = PbTxnRequest {
        compare: vec![PbCompare {
            key: "k".into(),
            target: 9,
            ..PbCompare::default()
        }],
        ..PbTxnRequest::default()
    };
    txn_refused(&channel, request, "turnlock: unknown compare target 9").await;

    assert_eq!(
        served.coordinator.status().keys,
        0,
        "a refused transaction wrote"
    );
    served.stop().await;
}

#[tokio::test]
async fn leases_are_refused_as_etcd_does() {
    let served = Served::start();
    let channel = served.channel().await;
    let grant = |id, ttl| {
        let channel = channel.clone();
        async move {
            let request = PbLeaseGrantRequest { id, ttl };
            call::<_, PbLeaseGrantResponse>(&channel, GRANT, request).await
        }
    };

    grant(7, 60).await.expect("granted");
    let text = "etcdserver: lease already exists";
    assert_refused(grant(7, 60).await, Code::FailedPrecondition, text);
    let text = "etcdserver: too large lease TTL";
    assert_refused(grant(8, 9_000_000_001).await, Code::OutOfRange, text);
    let revoked =
        call::<_, PbLeaseRevokeResponse>(&channel, REVOKE, PbLeaseRevokeRequest { id: 8 });
    let text = "etcdserver: requested lease not found";
    assert_refused(revoked.await, Code::NotFound, text);
    served.stop().await;
}

#[tokio::test]
async fn an_unimplemented_call_is_named() {
    let served = Served::start();
    let channel = served.channel().await;
    for path in [
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.KV/NoSuchMethod",
        "/etcdserverpb.Cluster/MemberAdd",
        "/etcdserverpb.Cluster/MemberRemove",
        "/etcdserverpb.Cluster/MemberUpdate",
        "/etcdserverpb.Cluster/MemberPromote",
        "/etcdserverpb.Maintenance/Downgrade",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let refusal = call::<(), ()>(&channel, path, ()).await;
        let name = &path[1..];
        let text = format!("turnlock does not implement {name}");
        assert_refused(refusal, Code::Unimplemented, &text);
    }
    for path in [
        "/etcdserverpb.Auth/AuthEnable",
        "/etcdserverpb.Auth/UserAdd",
        "/etcdserverpb.Auth/RoleGrantPermission",
    ] {
        let status = call::<(), ()>(&channel, path, ()).await.expect_err(path);
        assert_eq!(status.code(), Code::Unimplemented);
        let text = status.message();
        assert!(
            text.contains(&path[1..]) && text.contains("--users"),
            "{text}"
        );
    }
    let request = PbAlarmRequest {
        action: 1,
        ..PbAlarmRequest::default()
    };
    let path = "/etcdserverpb.Maintenance/Alarm";
    let refusal = call::<_, PbAlarmResponse>(&channel, path, request).await;
    let text = "turnlock does not implement etcdserverpb.Maintenance/Alarm";
    assert_refused(refusal, Code::Unimplemented, text);
    served.stop().await;
}

#[tokio::test]
async fn what_is_not_grpc_is_turned_away() {
    use tonic::body::Body;
    use tonic::codegen::Service;
    use tonic::codegen::http::{Request, StatusCode, header};

    let served = Served::start();
    let channel = served.channel().await;
    let answer = async |method: &str, kind: Option<&str>| {
        let mut request = Request::builder().method(method).uri(RANGE);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(Body::empty()).expect("a request");
        // The channel itself sends what it is given.
        let mut channel = channel.clone();
        std::future::poll_fn(|cx| channel.poll_ready(cx))
            .await
            .expect("ready");
        let response = channel.call(request).await.expect("an answer");
        response.status()
    };
    for kind in [Some("text/html"), Some("application/grpc-web"), None] {
        let status = answer("POST", kind).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}");
    }
    let status = answer("GET", Some("application/grpc")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let status = answer("POST", Some("application/grpc+proto")).await;
    assert_eq!(status, StatusCode::OK);
    served.stop().await;
}
