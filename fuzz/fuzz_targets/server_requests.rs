//! The bodies of requests, of every method of the server. An input is a row of calls: each begins with
//! the number of its method. The rest of it is one message, or a body with frames of its own.

#![no_main]

use etcd_client::proto::{
    PbCompactionRequest, PbLeaseGrantRequest, PbLeaseKeepAliveRequest, PbPutRequest, PbRangeRequest,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use turnlock_fuzz::server::{METHODS, call, frame};
use turnlock_fuzz::{memory, pieces};

/// Added to the number of a method whose body has its own frames.
const OWN_FRAMES: u8 = 128;

/// The most calls of an input: it is to be short.
const CALLS: usize = 16;

/// A connection, its buffers and its server.
const SERVER: usize = 16 << 20;

/// The statuses that say that the server has failed. Texts of etcd with the first do not; nor do those of
/// tonic with the other, which it has for what is no message. All are percent-encoded.
const UNKNOWN: &str = "2";
const EXPECTED_UNKNOWN: [&str; 4] = [
    "election:%20no%20leader",
    "election:%20not%20leader",
    "%22leader%22%20field%20must%20be%20provided",
    "mutex:%20session%20is%20expired",
];
const INTERNAL: &str = "13";
const OWN_INTERNAL: &str = "turnlock:";

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    let calls = pieces::split(input).take(CALLS).filter_map(|piece| {
        let (method, body) = piece.split_first()?;
        let body = match *method >= OWN_FRAMES {
            true => body.to_vec(),
            false => frame([body]),
        };
        Some((usize::from(method % OWN_FRAMES) % METHODS.len(), body))
    });
    let calls: Vec<_> = calls.collect();
    let answers = memory::limit(input, SERVER, || call(calls.iter().cloned()));
    for ((method, body), answer) in calls.iter().zip(answers) {
        let has_failed = match answer.status.as_deref() {
            Some(UNKNOWN) => !EXPECTED_UNKNOWN.contains(&answer.message.as_str()),
            Some(INTERNAL) => answer.message.starts_with(OWN_INTERNAL),
            _ => false,
        };
        assert!(!has_failed, "{}: {answer:?} to {body:02x?}", METHODS[*method]);
    }
});

fn seeds() -> Vec<Vec<u8>> {
    let call = |name: &str, message: &dyn Fn() -> Vec<u8>| {
        let method = METHODS.iter().position(|method| method.ends_with(name));
        let method = u8::try_from(method.expect("there is such a method")).expect("few");
        [vec![method], message()].concat()
    };
    let key = || b"a/1".to_vec();
    let put = call("/Put", &|| {
        let put = PbPutRequest {
            key: key(),
            value: b"value".to_vec(),
            ..PbPutRequest::default()
        };
        put.encode_to_vec()
    });
    let range = call("/Range", &|| {
        let range = PbRangeRequest {
            key: key(),
            ..PbRangeRequest::default()
        };
        range.encode_to_vec()
    });
    // The crate has no names for these messages. This one has a request to create a watch.
    let watch = call("/Watch", &|| b"\x0a\x07\x0a\x03a/1\x18\x01".to_vec());
    let grant = call("/LeaseGrant", &|| {
        PbLeaseGrantRequest { ttl: 9, id: 7 }.encode_to_vec()
    });
    let renew = call("/LeaseKeepAlive", &|| {
        PbLeaseKeepAliveRequest { id: 7 }.encode_to_vec()
    });
    // A name, a lease, and for the election a value.
    let lock = call("/Lock", &|| b"\x0a\x01a\x10\x07".to_vec());
    let unlock = call("/Unlock", &|| b"\x0a\x03a/7".to_vec());
    let campaign = call("/Campaign", &|| b"\x0a\x01e\x10\x07\x1a\x02me".to_vec());
    let compact = call("/Compact", &|| {
        let compact = PbCompactionRequest {
            revision: 2,
            physical: false,
        };
        compact.encode_to_vec()
    });
    let plain = METHODS.iter().map(|name| call(name, &Vec::new));
    let mut seeds = vec![
        pieces::join([&put, &range, &compact, &watch, &range]),
        pieces::join([&grant, &renew, &lock, &unlock, &campaign]),
    ];
    // A body with a frame of its own.
    let framed = [vec![put[0] + OWN_FRAMES], frame([&put[1..]])].concat();
    seeds.push(pieces::join([framed]));
    seeds.extend(plain.map(|call| pieces::join([call])));
    seeds
}
