//! Reading whole queues, page by page, and values, without a session of the user.

use std::collections::VecDeque;

use backend_kit::keyspace::Span;
use etcd_client::{GetOptions, KeyValue};
use lock_core::{DataKey, Error, LockName, Queue, TokenOffset};

use crate::client::Client;
use crate::offset;

/// How many keys an answer may have. Values of other clients may have up to 1.5 MiB each.
const PAGE: i64 = 128;
/// The longest answer that is accepted: a page of the largest values.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Reads the queue of a lock. If it is longer than a page, it is not a snapshot: it may or may not
/// have the entries that come or go meanwhile.
pub(crate) async fn queue(client: &Client, name: &LockName) -> Result<Queue, Error> {
    let mut pages = Pages::new(client, vec![client.keyspace.lock(name)]);
    let mut queue = Queue::new(name.clone(), Vec::new());
    let offset = offset::read(client).await?.offset;
    while let Some(kv) = pages.next().await? {
        push(client, &mut queue, &kv, offset)?;
    }
    sort(&mut queue);
    Ok(queue)
}

pub(crate) async fn locks(
    client: &Client,
    prefix: &str,
    after: Option<&LockName>,
    limit: usize,
) -> Result<Vec<Queue>, Error> {
    let mut pages = Pages::new(client, client.keyspace.locks(prefix, after));
    let mut queues: Vec<Queue> = Vec::new();
    if limit == 0 {
        return Ok(queues);
    }
    let offset = offset::read(client).await?.offset;
    while let Some(kv) = pages.next().await? {
        let Some(name) = client.keyspace.name_of(kv.key()) else {
            continue;
        };
        // All keys of a lock follow each other.
        if queues.last().is_none_or(|queue| queue.name != name) {
            if queues.len() == limit {
                break;
            }
            queues.push(Queue::new(name, Vec::new()));
        }
        if let Some(queue) = queues.last_mut() {
            push(client, queue, &kv, offset)?;
        }
    }
    queues.iter_mut().for_each(sort);
    Ok(queues)
}

fn push(
    client: &Client,
    queue: &mut Queue,
    kv: &KeyValue,
    offset: TokenOffset,
) -> Result<(), Error> {
    let (created, lease) = (kv.create_revision().unsigned_abs(), kv.lease());
    let keyspace = &client.keyspace;
    let entry = keyspace.entry(&queue.name, kv.key(), created, lease, kv.value(), offset)?;
    queue.entries.push(entry);
    Ok(())
}

fn sort(queue: &mut Queue) {
    queue.entries.sort_by_key(|entry| entry.id.incarnation);
}

/// Reads the value that holders keep at this key.
pub(crate) async fn get(client: &Client, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
    let (transport, key) = (&client.transport, client.keyspace.data_key(key));
    let mut answer = transport
        .call(move |client| {
            let key = key.clone();
            async move { client.kv_client().get(key, None).await }
        })
        .await?;
    let found = answer.take_kvs().pop();
    Ok(found.map(|kv| kv.into_key_value().1))
}

/// The keys of some spans, in order.
struct Pages<'a> {
    client: &'a Client,
    rest: VecDeque<Span>,
    page: VecDeque<KeyValue>,
}

impl<'a> Pages<'a> {
    fn new(client: &'a Client, spans: Vec<Span>) -> Self {
        Pages {
            client,
            rest: spans.into(),
            page: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<KeyValue>, Error> {
        while self.page.is_empty()
            && let Some(span) = self.rest.pop_front()
        {
            // To the server, an end that is not behind the start has another meaning.
            if span.start < span.end {
                self.read(span).await?;
            }
        }
        Ok(self.page.pop_front())
    }

    async fn read(&mut self, span: Span) -> Result<(), Error> {
        let transport = &self.client.transport;
        let Span { start, end } = span;
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
        let mut answer = transport
            .call(move |client| {
                let (start, options) = (start.clone(), options.clone());
                let mut kv = client
                    .kv_client()
                    .max_decoding_message_size(MAX_ANSWER_BYTES);
                async move { kv.get(start, Some(options)).await }
            })
            .await?;
        self.page = answer.take_kvs().into();
        if let (true, Some(last)) = (answer.more(), self.page.back()) {
            // The first key that can follow the last one.
            let start = [last.key(), &[0]].concat();
            self.rest.push_front(Span { start, end });
        }
        Ok(())
    }
}
