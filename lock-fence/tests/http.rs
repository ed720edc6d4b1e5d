//! The HTTP fence, with a real server and a real client.

#[allow(missing_docs)]
#[path = "../examples/http.rs"]
mod board;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use lock_fence::http::HEADER;
use tokio::net::{TcpListener, TcpStream};

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
