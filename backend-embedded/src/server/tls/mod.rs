//! TLS on the TCP listeners: certificates, handshakes, and who the clients are.

mod der;
mod failures;
mod files;
mod handshakes;
mod identity;
mod reload;
mod validity;

pub(super) use self::failures::HandshakeFailures;
pub use self::files::{TlsError, TlsFiles};
pub(super) use self::handshakes::{Handshakes, SecureConnection};
pub(super) use self::identity::Identity;
pub use self::reload::Tls;
