//! The answers to requests for metrics and probes.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use super::super::lifecycle::Lifecycle;
use super::super::metrics::{MEDIA_TYPE, Metrics};
use crate::coordinator::Coordinator;

/// How long an answer may take to be made.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";

/// What answers are made of.
#[derive(Debug)]
pub(in crate::server) struct Probed {
    coordinator: Coordinator,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
    /// One answer is made at a time.
    turn: Arc<Semaphore>,
}

impl Probed {
    pub(in crate::server) fn new(
        coordinator: Coordinator,
        lifecycle: Lifecycle,
        metrics: Arc<Metrics>,
    ) -> Self {
        Probed {
            coordinator,
            lifecycle,
            metrics,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    fn check_ready(&self) -> Result<(), String> {
        if self.lifecycle.is_draining() {
            return Err("the server is ending".to_owned());
        }
        self.coordinator.check_ready()
    }

    fn make(&self, probe: Probe) -> Answer {
        match probe {
            Probe::Metrics => match self.metrics.gather() {
                Ok(text) => (StatusCode::OK, MEDIA_TYPE, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
            },
            Probe::Live => to_answer(self.coordinator.check_alive()),
            Probe::Ready => to_answer(self.check_ready()),
        }
    }
}

type Answer = (StatusCode, &'static str, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Metrics,
    Live,
    Ready,
}

impl Probe {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/metrics" => Probe::Metrics,
            "/livez" => Probe::Live,
            // etcd's probes ask for the last one.
            "/readyz" | "/healthz" | "/health" => Probe::Ready,
            _ => return None,
        })
    }
}

fn to_answer(checked: Result<(), String>) -> Answer {
    match checked {
        Ok(()) => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

pub(super) async fn answer<B>(
    probed: Arc<Probed>,
    request: Request<B>,
    is_local: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match check(&request, is_local) {
        Err(refusal) => refusal,
        Ok(probe) => match tokio::time::timeout(ANSWER_TIMEOUT, make(probed, probe)).await {
            Ok(answer) => answer,
            Err(_) => {
                let seconds = ANSWER_TIMEOUT.as_secs();
                to_answer(Err(format!(
                    "the coordinator did not answer within {seconds} s"
                )))
            }
        },
    };
    let (status, media_type, text) = answer;
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(media_type),
    );
    headers.insert(
        CACHE_CONTROL,
        hyper::header::HeaderValue::from_static("no-store"),
    );
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

/// Makes an answer on a thread of its own: it may wait for the coordinator's state, or for a disk.
async fn make(probed: Arc<Probed>, probe: Probe) -> Answer {
    let Ok(turn) = Arc::clone(&probed.turn).acquire_owned().await else {
        return to_answer(Err("the server has ended".to_owned()));
    };
    let made = lock_core::background::block(move || {
        let answer = probed.make(probe);
        drop(turn);
        answer
    });
    (made.await).unwrap_or_else(|error| to_answer(Err(error.to_string())))
}

/// Returns what is asked for, or the answer that refuses it.
fn check<B>(request: &Request<B>, is_local: bool) -> Result<Probe, Answer> {
    if is_local && !names_this_machine(request) {
        let text = "this address answers for IP addresses and localhost only\n".to_owned();
        return Err((StatusCode::FORBIDDEN, TEXT, text));
    }
    let Some(probe) = Probe::of(request.uri().path()) else {
        let text = "there are /metrics, /livez, /readyz and /healthz\n".to_owned();
        return Err((StatusCode::NOT_FOUND, TEXT, text));
    };
    match *request.method() {
        Method::GET | Method::HEAD => Ok(probe),
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new())),
    }
}

/// Returns whether the request is for an IP address or for localhost. A web page whose name was
/// pointed at this machine makes its browser send that name.
fn names_this_machine<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(HOST) else {
        return true;
    };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse().ok()) else {
        return false;
    };
    let authority: hyper::http::uri::Authority = authority;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::lifecycle::Phase;
    use super::*;
    use crate::config::Limits;
    use crate::server::ServerLimits;
    use crate::server::clients::Clients;

    fn request(method: Method, path: &str, host: Option<&str>) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(()).expect("a valid request")
    }

    #[tokio::test]
    async fn a_probe_that_fails_says_why() {
        let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
        let (phase, lifecycle) = Lifecycle::new();
        let live = Arc::new(tokio::sync::watch::Sender::new(0));
        let clients = Arc::new(Clients::new(ServerLimits::default(), live));
        let metrics = Arc::new(Metrics::new(coordinator.clone(), clients, false));
        let probed = Arc::new(Probed::new(coordinator.clone(), lifecycle, metrics));
        let (status, _, text) = make(Arc::clone(&probed), Probe::Ready).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ok\n"));
        phase.send_replace(Phase::Draining);
        let (status, _, text) = make(Arc::clone(&probed), Probe::Ready).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "the server is ending\n");
        assert_eq!(
            make(Arc::clone(&probed), Probe::Live).await.0,
            StatusCode::OK
        );
        coordinator.close().expect("closed");
        let (status, _, text) = make(probed, Probe::Live).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("it was closed"), "{text}");
    }

    #[test]
    fn a_name_that_points_here_is_refused_on_loopback() {
        let status = |host, is_local| {
            check(&request(Method::GET, "/livez", host), is_local).map_err(|(status, ..)| status)
        };
        for host in [
            None,
            Some("localhost:1"),
            Some("127.0.0.1:9"),
            Some("[::1]:9"),
        ] {
            assert_eq!(status(host, true), Ok(Probe::Live), "{host:?}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1.evil.example",
        ] {
            assert_eq!(
                status(Some(host), true),
                Err(StatusCode::FORBIDDEN),
                "{host}"
            );
            assert_eq!(status(Some(host), false), Ok(Probe::Live), "{host}");
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let status =
            |method, path| check(&request(method, path, None), true).map_err(|(status, ..)| status);
        assert_eq!(status(Method::GET, "/"), Err(StatusCode::NOT_FOUND));
        let posted = status(Method::POST, "/metrics");
        assert_eq!(posted, Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(status(Method::HEAD, "/metrics"), Ok(Probe::Metrics));
        assert_eq!(status(Method::GET, "/healthz"), Ok(Probe::Ready));
    }
}
