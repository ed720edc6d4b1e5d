//! Where the server listens: at the addresses that are given, or at what a service manager has opened.

use backend_embedded::server::{InheritedListener, Listen, remove_stale_socket};
use nix::unistd::Group;

use crate::cli::Serve;
use crate::coordinator::local::Home;
use crate::coordinator::{metrics, system};
use crate::exit::{Exit, Failure};

/// Returns the addresses to bind. Sockets of a service manager take the place of those that are not
/// given.
pub fn parse_listeners(args: &Serve, home: &Home) -> Result<Vec<Listen>, Failure> {
    if args.listen.is_empty() {
        return Ok(match args.inherited.locks.is_empty() {
            true => vec![Listen::Unix(home.socket())],
            false => Vec::new(),
        });
    }
    let group = args.group.as_deref().map(find_group).transpose()?;
    let mut listeners = Vec::with_capacity(args.listen.len());
    for text in &args.listen {
        let listen = text
            .parse()
            .map_err(|error| Failure::new(Exit::Usage, format!("--listen {text}: {error}")))?;
        listeners.push(match (listen, group) {
            (Listen::Unix(path), Some(group)) => {
                if args.system {
                    system::make_runtime_folder(&path, group)?;
                }
                Listen::UnixOfGroup(path, group)
            }
            (listen, _) => listen,
        });
    }
    Ok(listeners)
}

/// Returns whether one of the addresses can speak TLS.
pub fn has_tcp(args: &Serve, listeners: &[Listen]) -> bool {
    let mut inherited = args.inherited.locks.iter();
    listeners.iter().any(|it| matches!(it, Listen::Tcp(_)))
        || inherited.any(|it| matches!(it, InheritedListener::Tcp(_)))
}

/// Removes the sockets that a dead coordinator left behind. This process owns the data folder, so
/// nobody else uses a socket in it. The machine's socket is served only from this folder.
pub fn remove_stale_sockets(
    args: &Serve,
    home: &Home,
    listeners: &[Listen],
) -> Result<(), Failure> {
    for listen in listeners {
        if let Listen::Unix(path) | Listen::UnixOfGroup(path, _) = listen
            && (path.starts_with(home.dir()) || args.system)
        {
            remove_stale_socket(path).map_err(|error| {
                Failure::new(Exit::Configuration, format!("{}: {error}", path.display()))
            })?;
        }
    }
    Ok(())
}

/// Returns the socket for metrics: beside the machine's socket, for the users of its group, or in the
/// folder of the data.
pub fn metrics_socket(args: &Serve, home: &Home) -> Result<Listen, Failure> {
    if !args.system {
        return Ok(Listen::Unix(metrics::socket_beside(&home.socket())));
    }
    let path = metrics::socket_beside(system::SOCKET.as_ref());
    Ok(Listen::UnixOfGroup(path, find_group(system::GROUP)?))
}

/// Returns the number of a group.
fn find_group(name: &str) -> Result<u32, Failure> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Failure::new(
            Exit::Configuration,
            format!("there is no group {name:?} on this machine"),
        )
        .hint(format!("root makes it: groupadd --system {name}"))),
        Err(error) => Err(Failure::new(
            Exit::Configuration,
            format!("cannot look up the group {name:?}: {error}"),
        )),
    }
}
