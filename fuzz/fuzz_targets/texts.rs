//! Names, tokens and URLs. The first byte of an input says what the rest is. What is read has one text:
//! it is written as it was read, or is read again as the same.

#![no_main]

use backend_kit::keyspace::Keyspace;
use libfuzzer_sys::fuzz_target;
use lock_core::observe::TraceContext;
use lock_core::{LockName, TokenOffset, name};
use lock_fence::FencingToken;
use turnlock_fuzz::memory;

/// A client of etcd, which is made and not connected.
const CLIENT: usize = 4 << 20;

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    memory::limit(input, CLIENT, || match choice % 8 {
        0 => read_name(text),
        1 => {
            if let Some(name) = name::decode(text) {
                assert_eq!(name::encode(name.as_str()), text);
            }
        }
        2 => {
            if let Ok(token) = text.parse::<FencingToken>() {
                assert_eq!(token.to_string(), text);
            }
        }
        3 => {
            if let Ok(context) = text.parse::<TraceContext>() {
                assert_eq!(context.to_string(), text);
            }
        }
        4 => {
            if let Ok(offset) = TokenOffset::from_bytes(bytes, "key") {
                let again = TokenOffset::from_bytes(&offset.to_bytes(), "key");
                assert_eq!(again.ok(), Some(offset));
            }
        }
        5 => drop(backend_etcd::Config::from_url(text)),
        6 => drop(backend_zk::Config::from_url(text)),
        _ => drop(backend_embedded::from_url(text)),
    });
});

fn read_name(text: &str) {
    let keyspace = Keyspace::default();
    if let Ok(name) = LockName::new(text) {
        let encoded = name::encode(text);
        assert_eq!(name::decode(&encoded), Some(name.clone()));
        let key = [keyspace.lock(&name).start.as_slice(), b"1"].concat();
        assert_eq!(keyspace.name_of(&key), Some(name));
    }
    if let Ok(name) = LockName::raw(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(keyspace) = Keyspace::new(text) {
        let prefix = format!("{}/", text.trim_end_matches('/'));
        assert_eq!(keyspace.prefix_of_all(), prefix);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "0jobs/nightly",
        "1a%2Fb%25%C3%BC",
        "2v1:exclusive:42:etcd-prod:accounts%2Fledger",
        "2v1:shared:7::@%2Fa",
        "300-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "41000",
        "5etcd://h1:2379,[::1]:2380?namespace=a&user=u&password_env=P&connect_timeout=2s",
        "5etcds://h1?ca=/nowhere&request_timeout=500ms",
        "5etcd+unix:///run/turnlock.sock?namespace=a%2Fb",
        "6zk://h1:2181,h2/chroot?namespace=a&recipe=read-write",
        "6zks://h1?ca=/nowhere",
        "7embedded:memory",
        "7embedded:///var/lib/locks",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
