//! The HTTP fence, with a real server and a real client, and the responses of a service that takes
//! locks.

#[allow(missing_docs)]
#[path = "../examples/http.rs"]
mod board;

#[allow(missing_docs)]
#[path = "../examples/axum.rs"]
mod counter;

use axum::body::Body;
use backend_embedded::{Coordinator, EmbeddedBackend, Limits};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use lock_core::{Backend, Locks, Options, Release};
use lock_fence::http::HEADER;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

struct Client(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl Client {
    async fn send(&mut self, method: &str, tokens: &[&str], text: &str) -> (StatusCode, String) {
        let mut request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "board");
        for token in tokens {
            request = request.header(HEADER, *token);
        }
        let request = request
            .body(Full::from(Bytes::copy_from_slice(text.as_bytes())))
            .expect("a request");
        self.0.ready().await.expect("connected");
        let response = self.0.send_request(request).await.expect("an answer");
        let status = response.status();
        let body = response.collect().await.expect("all of it").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

#[tokio::test]
async fn a_stale_write_is_412_and_the_board_stays() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(board::serve(listener));
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection);
    let mut client = Client(send);

    let (status, said) = client.send("POST", &[], "nobody").await;
    assert_eq!(status, StatusCode::PRECONDITION_REQUIRED, "{said}");
    let (status, _) = client
        .send("POST", &["v1:exclusive:7::board"], "seven")
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, said) = client.send("POST", &["v1:exclusive:6::board"], "six").await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    assert!(
        said.contains("has seen token 7") && said.contains("6 is lower"),
        "{said}"
    );
    let (status, said) = client.send("POST", &["v1:shared:8::board"], "reader").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
    for tokens in [
        &["8"][..],
        &["v1:exclusive:8::board", "v1:exclusive:9::board"],
        &["\u{fc}"],
    ] {
        let (status, said) = client.send("POST", tokens, "malformed").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
    }
    assert_eq!(
        client.send("GET", &[], "").await,
        (StatusCode::OK, "seven".to_owned())
    );
    let (status, _) = client
        .send("POST", &["v1:exclusive:7::board"], "again")
        .await;
    assert_eq!(status, StatusCode::OK, "the same holder");
    assert_eq!(client.send("GET", &[], "").await.1, "again");
    server.abort();
}

/// Sends a request to a service. Returns the status, the header `Retry-After`, and the body.
async fn post(service: axum::Router) -> (StatusCode, Option<String>, String) {
    let request = Request::post("/").body(Body::empty()).expect("a request");
    let response = service.oneshot(request).await.expect("infallible");
    let status = response.status();
    let pause = response.headers().get("retry-after");
    let pause = pause.map(|pause| pause.to_str().expect("visible").to_owned());
    let body = response.collect().await.expect("all of it").to_bytes();
    (status, pause, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_service_that_is_full_of_waiters_says_when_to_come_back() {
    let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
    let backend = EmbeddedBackend::new(coordinator.clone());
    let others = Locks::new(backend.clone(), Options::default()).expect("valid options");
    let lock = others.mutex("counter").expect("a name");
    let held = lock.acquire().await.expect("ours");

    let options = Options::default().with_max_pending_acquires(1);
    let locks = Locks::new(backend.clone(), options).expect("valid options");
    let service = counter::service(&locks).expect("a name");
    let waiting = tokio::spawn(post(service.clone()));
    while backend
        .queue(lock.name())
        .await
        .expect("read")
        .entries
        .len()
        < 2
    {
        tokio::task::yield_now().await;
    }
    let (status, pause, said) = post(service.clone()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{said}");
    assert!(pause.is_some_and(|pause| pause.parse::<u64>().is_ok_and(|seconds| seconds > 0)));

    assert_eq!(held.release().await.expect("in time"), Release::Released);
    let counted = waiting.await.expect("no panic");
    assert_eq!(counted, (StatusCode::OK, None, "1\n".to_owned()));
    assert_eq!(post(service).await.2, "2\n");
}
