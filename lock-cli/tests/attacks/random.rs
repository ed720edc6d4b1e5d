//! Well-formed requests of every method, drawn from the protos.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};
use testkit::etcd_protos;
use tonic::{Code, Status};

use crate::WINDOW;
use crate::attacker::{Attacker, Call, framed, whole_status};
use crate::scene;

/// How many requests are sent, by default.
const REQUESTS: usize = 10_000;

const CLIENTS: usize = 8;

/// How long to look at a call that may go on for as long as it likes.
const GLANCE: Duration = Duration::from_millis(20);

/// What a well-formed request may be answered with, where there are no rules: it is done, or something in
/// it is wrong.
const EXPECTED: [Code; 7] = [
    Code::Ok,
    Code::InvalidArgument,
    Code::NotFound,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::Unimplemented,
];

/// The faults of a request that have the code `Unknown` in etcd, and so here. Any other text with that
/// code is a failure of the server.
const UNKNOWN: [&str; 4] = [
    "election: no leader",
    "election: not leader",
    "\"leader\" field must be provided",
    "mutex: session is expired",
];

/// Returns whether a well-formed request may be answered so.
fn is_expected(status: &Status) -> bool {
    match status.code() {
        Code::Unknown => UNKNOWN.contains(&status.message()),
        code => EXPECTED.contains(&code),
    }
}

/// Returns a number that is told on the command line, if there is one.
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{name} is not a number: {text}")))
}

/// Draws a message. One that is this deep has no messages in it.
fn message(random: &mut Rng, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        // Of a `oneof`, the last field that is set remains.
        let is_message = matches!(field.kind(), Kind::Message(_));
        if random.u8(..) < 100 || (is_message && depth == 0) {
            continue;
        }
        let value = match field.is_list() {
            true => {
                let count = random.usize(0..4);
                Value::List((0..count).map(|_| value(random, &field, depth)).collect())
            }
            false => value(random, &field, depth),
        };
        message.set_field(&field, value);
    }
    message
}

fn value(random: &mut Rng, field: &FieldDescriptor, depth: u32) -> Value {
    match field.kind() {
        Kind::Message(inner) => Value::Message(message(random, &inner, depth - 1)),
        Kind::Bytes => Value::Bytes(bytes(random, field.name()).into()),
        Kind::String => Value::String("any".repeat(random.usize(0..3))),
        Kind::Bool => Value::Bool(random.bool()),
        Kind::Enum(_) => Value::EnumNumber(random.i32(-1..7)),
        Kind::Uint64 => Value::U64(number(random).cast_unsigned()),
        Kind::Int64 => Value::I64(number(random)),
        kind => panic!("{}: a new kind of field: {kind:?}", field.full_name()),
    }
}

fn number(random: &mut Rng) -> i64 {
    match random.u8(0..8) {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => random.i64(..),
        3 => random.i64(0..1 << 51),
        _ => random.i64(-3..20),
    }
}

/// Draws a key, the end of a range, or a value. What the honest ones have is never within: without
/// rules, whoever wants to may delete it.
fn bytes(random: &mut Rng, field: &str) -> Vec<u8> {
    match field {
        "range_end" => {
            let ends = ["", "fuzz/", "fuzz/m", "fuzz/~"];
            random.choice(ends).expect("there are some").into()
        }
        "key" | "name" if random.u8(..) > 5 => {
            let letters = (0..random.usize(0..3)).map(|_| random.alphabetic());
            ["fuzz/".to_owned(), letters.collect()]
                .concat()
                .into_bytes()
        }
        "key" | "name" => Vec::new(),
        _ => (0..random.usize(0..200)).map(|_| random.u8(..)).collect(),
    }
}

/// Returns whether a call may wait for others, or forever.
fn may_wait(method: &MethodDescriptor) -> bool {
    let waits = ["v3lockpb.Lock.Lock", "v3electionpb.Election.Campaign"];
    method.is_server_streaming() || waits.contains(&method.full_name())
}

/// Makes one call, and says how it ended if it has to.
async fn call(attacker: &Attacker, random: &mut Rng, method: &MethodDescriptor) {
    let path = etcd_protos::path(method);
    let begun = attacker.call_path(&path).await;
    let Some(Call { answer, mut stream }) = begun else {
        panic!("the connection ended before {path}");
    };
    let count = match method.is_client_streaming() {
        true => random.usize(0..4),
        false => 1,
    };
    let drawn = (0..count).map(|_| message(random, &method.input(), 4));
    let requests: Vec<_> = drawn.collect();
    for (at, request) in requests.iter().enumerate() {
        let is_last = at + 1 == count && !method.is_client_streaming();
        let sent = stream.send_data(framed(request), is_last);
        // A stream that the server has refused ends before all is sent.
        assert!(sent.is_ok() || method.is_client_streaming(), "{path}");
    }
    let status = match may_wait(method) {
        // If it has not ended by then, it ends here, wherever it is.
        true => match tokio::time::timeout(GLANCE, whole_status(answer)).await {
            Ok(status) => status,
            Err(_) => return,
        },
        false => whole_status(answer).await,
    };
    let sent: Vec<_> = requests.iter().map(DynamicMessage::to_string).collect();
    let Some(status) = status else {
        panic!("{path} was not answered: {sent:?}");
    };
    assert!(is_expected(&status), "{path}: {status:?} to {sent:?}");
}

/// Sends requests while some are left. Returns how many it has sent.
async fn send(address: &str, seed: u64, left: &AtomicUsize, methods: &[MethodDescriptor]) -> usize {
    let mut random = Rng::with_seed(seed);
    let attacker = Attacker::connect(address, WINDOW).await;
    let take = |left: usize| left.checked_sub(1);
    let mut sent = 0;
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        let method = random.choice(methods).expect("there are some");
        call(&attacker, &mut random, method).await;
        sent += 1;
    }
    sent
}

/// `TURNLOCK_SEED=<number>` repeats the requests, though not their order over all clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_of_every_method_do_no_harm() {
    let seed = variable("TURNLOCK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let requests = variable("TURNLOCK_REQUESTS").unwrap_or(REQUESTS);
    println!("TURNLOCK_SEED={seed} TURNLOCK_REQUESTS={requests}");
    let seeds = RefCell::new(Rng::with_seed(seed));
    let methods = Arc::new(etcd_protos::methods(&etcd_protos::read_descriptors()));
    scene::endure(0, async |scene, factor| {
        let left = Arc::new(AtomicUsize::new(requests * factor));
        let clients = (0..CLIENTS).map(|_| {
            let seed = seeds.borrow_mut().u64(..);
            let (left, methods) = (Arc::clone(&left), Arc::clone(&methods));
            let address = scene.address().to_owned();
            tokio::spawn(async move { send(&address, seed, &left, &methods).await })
        });
        let clients: Vec<_> = clients.collect();
        let sent = join_all(clients).await.into_iter();
        sent.map(|sent| sent.expect("every request is answered"))
            .sum()
    })
    .await;
}
