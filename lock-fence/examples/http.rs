//! A board that anybody reads, and that only the holder of the latest token writes on.
//!
//! ```sh
//! cargo run -p lock-fence --features tower --example http -- 127.0.0.1:8080 &
//! turnlock run board -c 'curl -H "Fencing-Token: $TURNLOCK_FENCING_TOKEN" -d hello http://127.0.0.1:8080/'
//! curl http://127.0.0.1:8080/
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use lock_fence::http::FenceLayer;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};

const MAX_TEXT_BYTES: usize = 1 << 20;

type Board = Arc<Mutex<Bytes>>;

async fn answer(
    board: Board,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::default();
    if request.method() == Method::POST {
        // A request that gets here was admitted, and no other one is served meanwhile.
        match Limited::new(request.into_body(), MAX_TEXT_BYTES)
            .collect()
            .await
        {
            Ok(text) => *board.lock().expect("nobody panics with it") = text.to_bytes(),
            Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
        }
    } else {
        let text = board.lock().expect("nobody panics with it").clone();
        *response.body_mut() = Full::new(text);
    }
    Ok(response)
}

/// Serves a board until it is dropped.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let board = Board::default();
    let service = ServiceBuilder::new()
        .layer(FenceLayer::default())
        .service(service_fn(move |request| answer(board.clone(), request)));
    loop {
        let (connection, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let io = TokioIo::new(connection);
            // The client may have disconnected. Then no reply can be sent.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await;
        });
    }
}

#[allow(dead_code)] // The tests use the function above.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .ok_or("give HOST:PORT to listen on")?;
    Ok(serve(TcpListener::bind(address).await?).await?)
}
