//! The warnings for a configuration without security. The only test of its process, since each
//! warning is given once.

use std::fmt;
use std::sync::{Arc, Mutex};

use backend_zk::{Config, ZkBackend};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the warnings.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl Listener {
    /// Returns how many warnings contain this text.
    fn heard(&self, words: &str) -> usize {
        let said = self.0.lock().expect("no panic");
        said.iter().filter(|text| text.contains(words)).count()
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("no panic").push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

#[test]
fn locks_that_are_open_to_everybody_and_plain_text_are_warned_of_once() {
    let listener = Listener::default();
    let connect = |url: &str| {
        let config = Config::from_url(url).expect("valid");
        ZkBackend::new(config).expect("usable");
    };
    tracing::subscriber::with_default(listener.clone(), || {
        connect("zk://127.0.0.1?user=app&password_env=PATH");
        assert_eq!(listener.heard(""), 0, "nothing to warn of");
        for _ in 0..3 {
            connect("zk://zk.example");
        }
    });
    assert_eq!(listener.heard("user and password_file"), 1);
    assert_eq!(listener.heard("not encrypted: use zks://"), 1);
    assert_eq!(listener.heard(""), 2);
}
