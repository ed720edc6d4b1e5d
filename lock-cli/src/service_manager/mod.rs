//! What a coordinator and the service manager that runs it say to each other: systemd, or another
//! one with the same protocols.

mod notify;
mod sockets;

pub use self::notify::{Notifier, watchdog_interval};
pub use self::sockets::Inherited;
