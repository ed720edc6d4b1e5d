//! The way of spans to the collector: over a thread and a runtime of its own. The thread of the
//! command must neither wait for a collector nor drive the connection to it, and the one that renews
//! sessions must not either.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use lock_core::background;
use opentelemetry::Context;
use opentelemetry_otlp::{RetryPolicy, SpanExporter as OtlpExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep_until, timeout};

use crate::child::with_signals_blocked;

/// How many spans may be under way to the thread. More are dropped.
const QUEUE: usize = 2048;
/// How many spans are sent at once, at most.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with, at most.
const PERIOD: Duration = Duration::from_secs(5);
/// The time limit of one request to the collector.
const REQUEST: Duration = Duration::from_secs(10);

/// Passes spans on to the thread. Never blocks, but for its end.
#[derive(Debug, Clone)]
pub struct Relay(Sender<Message>);

#[derive(Debug)]
enum Message {
    Ended(Box<SpanData>),
    /// Sends what is there, and reports the outcome.
    Finish(SyncSender<OTelSdkResult>),
}

impl Relay {
    /// Starts the thread.
    ///
    /// # Errors
    /// The environment has a wrong setting, or the system has no thread for it.
    pub fn start(resource: Resource) -> Result<Self, String> {
        let (sender, receiver) = channel(QUEUE);
        let (report, started) = sync_channel(1);
        let thread = std::thread::Builder::new().name("turnlock-otel".to_owned());
        // A signal is to end the command in its own way, and not by this thread.
        with_signals_blocked(|| thread.spawn(move || run(resource, receiver, &report)))
            .map_err(|error| format!("no traces are sent: {error}"))?;
        match started.recv() {
            Ok(Ok(())) => Ok(Relay(sender)),
            Ok(Err(problem)) => Err(format!("no traces are sent: {problem}")),
            Err(_) => Err("no traces are sent: their thread has ended".to_owned()),
        }
    }
}

impl SpanProcessor for Relay {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            // A span that finds no room is lost: nobody may wait for it.
            let _ = self.0.try_send(Message::Ended(Box::new(span)));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        let (report, finished) = sync_channel(1);
        if self.0.try_send(Message::Finish(report)).is_err() {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let finished = finished.recv_timeout(limit);
        finished.unwrap_or(Err(OTelSdkError::Timeout(limit)))
    }
}

/// Sends spans until the last relay is gone.
fn run(resource: Resource, receiver: Receiver<Message>, report: &SyncSender<Result<(), String>>) {
    // No span is made of what is done here.
    let _suppressed = Context::enter_telemetry_suppressed_scope();
    let runtime = match background::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(error.to_string()))),
    };
    let entered = runtime.enter();
    let built = OtlpExporter::builder()
        .with_tonic()
        // A run that ends soon would wait for the next try, which has no better chance.
        .with_retry_policy(RetryPolicy::default().with_max_retries(0))
        .build();
    drop(entered);
    let mut exporter = match built {
        Ok(exporter) => exporter,
        Err(error) => return drop(report.send(Err(error.to_string()))),
    };
    exporter.set_resource(&resource);
    let _ = report.send(Ok(()));
    runtime.block_on(forward(exporter, receiver));
}

async fn forward(exporter: OtlpExporter, mut receiver: Receiver<Message>) {
    let mut batch: Vec<SpanData> = Vec::new();
    let mut due = Instant::now();
    loop {
        let message = tokio::select! {
            message = receiver.recv() => message,
            () = sleep_until(due), if !batch.is_empty() => {
                let _ = export(&exporter, &mut batch).await;
                continue;
            }
        };
        match message {
            None => return,
            Some(Message::Ended(span)) => {
                if batch.is_empty() {
                    due = Instant::now() + PERIOD;
                }
                batch.push(*span);
                if batch.len() == BATCH {
                    let _ = export(&exporter, &mut batch).await;
                }
            }
            Some(Message::Finish(report)) => {
                // Nobody waits for it any more, if it has taken too long.
                let _ = report.send(export(&exporter, &mut batch).await);
            }
        }
    }
}

async fn export(exporter: &OtlpExporter, batch: &mut Vec<SpanData>) -> OTelSdkResult {
    if batch.is_empty() {
        return Ok(());
    }
    let sent = timeout(REQUEST, exporter.export(std::mem::take(batch)));
    sent.await.unwrap_or(Err(OTelSdkError::Timeout(REQUEST)))
}
