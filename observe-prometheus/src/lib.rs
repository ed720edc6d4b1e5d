//! Prometheus metrics of Turnlock's locks, for the crate `prometheus-client`.
//!
//! [`LockMetrics`] keeps the metrics. A program registers them in the [`Registry`] that it already
//! serves, and gives an [observer](LockMetrics::observer) to each of its
//! [`Locks`](lock_core::Locks).
//!
//! ```
//! use lock_core::{Locks, Options};
//! use observe_prometheus::LockMetrics;
//! use observe_prometheus::prometheus_client::encoding::prometheus_text;
//! use observe_prometheus::prometheus_client::registry::Registry;
//!
//! # futures_executor::block_on(async {
//! let metrics = LockMetrics::new();
//! let mut registry = Registry::default();
//! metrics.register(&mut registry);
//!
//! let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
//! let observer = metrics.observer("embedded");
//! let locks = Locks::new(backend, Options::default().with_observer(observer))?;
//! let guard = locks.mutex("nightly")?.acquire().await?;
//!
//! // What a program answers to `GET /metrics`.
//! let mut text = String::new();
//! prometheus_text::encode(&mut text, &registry).expect("a string takes any text");
//! assert!(text.contains("turnlock_held{mode=\"exclusive\"} 1\n"));
//! # drop(guard);
//! # Ok::<(), lock_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Labels
//!
//! No label is a session, a token, an owner or a process: their values have no limit. Every series
//! whose labels are known exists from the start with the value 0. So an alert on the first loss can
//! be written before there is one. The names of locks are a label only if
//! [asked for](LockMetrics::with_lock_label), with [`MAX_LOCK_LABELS`] values at most.
//!
//! # Cost
//!
//! An acquire with its release updates two histograms and three other values, without any
//! allocation. The margins and the ages of waits are computed at the scrape.

mod lock_labels;
mod lock_series;
mod metrics;
mod names;
mod observer;
mod scrape;
mod session_series;
mod waits;

#[doc(no_inline)]
pub use prometheus_client;
#[doc(no_inline)]
pub use prometheus_client::registry::Registry;

pub use self::lock_labels::{MAX_CACHED_NAMES, MAX_LOCK_LABELS, OTHER_LOCKS, collapse_ids};
pub use self::metrics::LockMetrics;
