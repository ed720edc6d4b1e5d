//! Sends the requests of a probe to a server.

use futures_util::{StreamExt, stream};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use testkit::etcd_protos;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::answer::Answer;
use crate::probe::{Probe, short};
use crate::support::PATIENCE;

/// Encodes and decodes messages by their descriptions.
#[derive(Clone)]
struct Described(MessageDescriptor);

impl Codec for Described {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Described;
    type Decoder = Described;

    fn encoder(&mut self) -> Described {
        self.clone()
    }

    fn decoder(&mut self) -> Described {
        self.clone()
    }
}

impl Encoder for Described {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).expect("there is room");
        Ok(())
    }
}

impl Decoder for Described {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let item = DynamicMessage::decode(self.0.clone(), buffer);
        Ok(Some(item.expect("an answer of this type")))
    }
}

/// One call of a probe.
struct Step {
    method: MethodDescriptor,
    requests: Vec<DynamicMessage>,
    expected: usize,
    shape: bool,
}

/// A server, and the words that stand for what is its own.
pub struct Client {
    channel: Channel,
    methods: Vec<MethodDescriptor>,
    member: u64,
}

impl Client {
    pub async fn connect(address: &str, pool: &DescriptorPool) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let mut client = Client {
            channel: endpoint.connect().await.expect("connected"),
            methods: etcd_protos::methods(pool),
            member: 0,
        };
        client.member = client.header("member_id").await.as_u64().expect("an id");
        client
    }

    /// Returns a field of the present header.
    async fn header(&self, field: &str) -> Value {
        let method = self.find("KV.Range");
        let request = parse(&method.input(), "key: 'k'");
        let (answers, refusal) = self.send(&method, vec![request], 1).await;
        let answer = answers.first().unwrap_or_else(|| panic!("{refusal:?}"));
        let header = answer.get_field_by_name("header").expect("a field");
        let header = header.as_message().expect("a message").clone();
        header
            .get_field_by_name(field)
            .expect("a field")
            .into_owned()
    }

    fn find(&self, name: &str) -> MethodDescriptor {
        let mut methods = self.methods.iter();
        let found = methods.find(|method| short(method.full_name()) == name);
        found.unwrap_or_else(|| panic!("no method {name}")).clone()
    }

    /// Sends the requests of a probe one after the other, and returns the answers.
    ///
    /// A step is a method and its request in protobuf's text format. On a stream, several requests
    /// are separated by ` ; `, and a number before the method is how many answers to wait for; a
    /// `?` after the method means that only the shape of the answer counts. `$K` is the beginning of
    /// the probe's keys, `$L` the id of a lease, `$H` the same in hex, `$R` the revision at which
    /// the probe begins, `$1` the next one and so on, and `$M` the server's member.
    pub async fn run(&self, probe: &Probe, number: i64) -> Vec<Answer> {
        let base = self.header("revision").await.as_i64().expect("a number");
        let mut answers = Vec::new();
        for text in probe.steps {
            let step = self.parse(text, number, base);
            let sent = self.send(&step.method, step.requests, step.expected).await;
            answers.push(Answer::new(sent.0, sent.1, base, step.shape));
        }
        answers
    }

    /// Returns whether the steps of a probe call the method, or set the field, that it is about.
    pub fn is_about_its_name(&self, probe: &Probe) -> bool {
        let mut steps = probe.steps.iter().map(|text| self.parse(text, 1, 1));
        steps.any(|step| {
            let mut requests = step.requests.iter();
            short(step.method.full_name()) == probe.name
                || requests.any(|request| sets(request, probe.name))
        })
    }

    /// Parses a step.
    fn parse(&self, text: &str, number: i64, base: i64) -> Step {
        let lease = 1000 + number;
        let mut text = text.replace("$K", &format!("p{number}/"));
        text = text.replace("$L", &lease.to_string());
        text = text.replace("$H", &format!("{lease:x}"));
        text = text.replace("$M", &self.member.to_string());
        text = text.replace("$R", &base.to_string());
        for ahead in 1..=9 {
            text = text.replace(&format!("${ahead}"), &(base + ahead).to_string());
        }
        let (mut method, mut requests) = text.split_once(' ').unwrap_or((&text, ""));
        let mut expected = 1;
        if let Ok(number) = method.parse() {
            expected = number;
            (method, requests) = requests.split_once(' ').unwrap_or((requests, ""));
        }
        let shape = method.ends_with('?');
        let method = self.find(method.trim_end_matches('?'));
        let requests = requests.split(" ; ");
        let requests = requests.map(|request| parse(&method.input(), request));
        Step {
            requests: requests.collect(),
            method,
            expected,
            shape,
        }
    }

    /// Sends requests to a method. Returns the first `expected` answers of a stream, and how it
    /// ended if it did.
    async fn send(
        &self,
        method: &MethodDescriptor,
        requests: Vec<DynamicMessage>,
        expected: usize,
    ) -> (Vec<DynamicMessage>, Option<Status>) {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.expect("the channel is open");
        let requests = stream::iter(requests);
        let requests = match method.is_client_streaming() {
            true => requests.chain(stream::pending()).left_stream(),
            false => requests.right_stream(),
        };
        let path: PathAndQuery = etcd_protos::path(method).parse().expect("a path");
        let codec = Described(method.output());
        let mut messages = Vec::new();
        let asked = client.streaming(Request::new(requests), path, codec).await;
        let mut answers = match asked {
            Ok(answers) => answers.into_inner(),
            Err(refusal) => return (messages, Some(refusal)),
        };
        let is_stream = method.is_server_streaming();
        while !is_stream || messages.len() < expected {
            match tokio::time::timeout(PATIENCE, answers.message()).await {
                Ok(Ok(Some(message))) => messages.push(message),
                Ok(Ok(None)) => break,
                Err(_) => {
                    let text = format!("no answer {} within {PATIENCE:?}", messages.len() + 1);
                    return (messages, Some(Status::deadline_exceeded(text)));
                }
                Ok(Err(refusal)) => return (messages, Some(refusal)),
            }
        }
        (messages, None)
    }
}

/// Returns whether a field is set in a message, or in a message in it.
fn sets(message: &DynamicMessage, name: &str) -> bool {
    message.fields().any(|(field, value)| {
        let inner = match value {
            Value::Message(inner) => sets(inner, name),
            Value::List(values) => values
                .iter()
                .filter_map(Value::as_message)
                .any(|inner| sets(inner, name)),
            _ => false,
        };
        inner || short(field.full_name()) == name
    })
}

fn parse(message: &MessageDescriptor, text: &str) -> DynamicMessage {
    DynamicMessage::parse_text_format(message.clone(), text)
        .unwrap_or_else(|error| panic!("{}: {text}: {error}", message.full_name()))
}
