//! Ends calls that take longer than their clients wait.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, FutureExt, Map};
use tokio::time::error::Elapsed;
use tokio::time::{Timeout, timeout};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;
use tonic::codegen::{Service, http};

/// The header of gRPC with the time that the client waits.
const TIMEOUT: &str = "grpc-timeout";

/// The most digits that the header has, as gRPC specifies it.
const MAX_DIGITS: usize = 8;

/// The layer that answers a call with `DEADLINE_EXCEEDED` if it is not answered in the client's time.
/// The time ends with the head of the answer, so it does not end streams.
#[derive(Clone)]
pub(super) struct Deadlines<S>(pub(super) S);

impl<S, B> Service<http::Request<B>> for Deadlines<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, InTime<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let limit = read_timeout(request.headers());
        let answer = self.0.call(request);
        match limit {
            Some(limit) => Either::Right(timeout(limit, answer).map(refuse_if_late)),
            None => Either::Left(answer),
        }
    }
}

type InTime<F> =
    Map<Timeout<F>, fn(Result<<F as Future>::Output, Elapsed>) -> <F as Future>::Output>;

fn refuse_if_late<E>(
    answered: Result<Result<http::Response<Body>, E>, Elapsed>,
) -> Result<http::Response<Body>, E> {
    answered.unwrap_or_else(|_| {
        let late =
            Status::deadline_exceeded("the client's time was over before the answer was there");
        Ok(late.into_http())
    })
}

/// Returns the time that the client waits. A header that breaks the rules counts as none.
fn read_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > MAX_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::HeaderValue;

    use super::*;

    #[test]
    fn the_time_is_read_in_each_unit() {
        let hour = Duration::from_secs(3600);
        for (value, expected) in [
            ("2H", Some(2 * hour)),
            ("60M", Some(hour)),
            ("3600S", Some(hour)),
            ("3600000m", Some(hour)),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("999999999m", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("+1S", None),
            ("1 S", None),
            ("1\u{b5}", None),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("visible");
            let headers: HeaderMap = [(TIMEOUT.parse().expect("a name"), value)]
                .into_iter()
                .collect();
            assert_eq!(read_timeout(&headers), expected, "{headers:?}");
        }
        assert_eq!(read_timeout(&HeaderMap::new()), None);
    }
}
