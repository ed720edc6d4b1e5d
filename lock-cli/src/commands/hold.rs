//! `turnlock hold`: hold a lock until a signal comes, or until stdin ends.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::stdin;
use serde_json::json;
use turnlock::Release;

use crate::child::Signals;
use crate::cli::{Global, Hold};
use crate::commands::acquiring::{
    Acquisition, Request, acquire, parse_mode, wait_for_deadly_signal,
};
use crate::commands::names::parse_name;
use crate::commands::release::{close_session, release};
use crate::exit::{Exit, Failure};
use crate::output::{inform, print, print_json, say};

pub async fn hold(global: Global, args: Hold) -> Result<Exit, Failure> {
    let name = parse_name(&args.name, args.acquire.raw)?;
    let mode = parse_mode(&args.flags)?;
    let mut stdin_end = match args.while_open {
        true => Some(Box::pin(watch_stdin()?)),
        false => None,
    };
    let mut signals = Signals::install()?;
    let request = Request {
        global: &global,
        name: &name,
        mode,
        options: &args.acquire,
        command: "turnlock hold".to_owned(),
        key: None,
    };
    let abandoned = async {
        tokio::select! {
            exit = wait_for_deadly_signal(&mut signals) => exit,
            () = wait_for_end(&mut stdin_end) => {
                inform(format!("{name}: stdin has ended before the lock was acquired"));
                Exit::Of(args.acquire.conflict_exit_code)
            }
        }
    };
    let (locks, guard) = match acquire(&request, abandoned).await? {
        Acquisition::Held(locks, guard) => (locks, guard),
        Acquisition::Abandoned(exit) => return Ok(exit),
    };
    let (token, ttl) = (guard.token(), guard.ttl());
    let printed = match global.json {
        true => print_json(&json!({"name": name.as_str(), "mode": guard.mode(), "token": token})),
        false => print(token.to_string()),
    };
    if let Err(failure) = printed {
        // The reader of stdout was to learn of the lock, but could not.
        let _ = release(guard).await;
        close_session(&locks).await;
        return Err(failure);
    }
    let (lost, signal) = tokio::select! {
        reason = guard.lost() => (Some(reason), None),
        signal = signals.wait_for_deadly() => (None, Some(signal)),
        () = wait_for_end(&mut stdin_end) => (None, None),
    };
    // A TERM is how `hold` is meant to end. Ctrl-C is meant for the script around it as well.
    let exit = signal
        .filter(|signal| signal.is_from_terminal())
        .map_or(Exit::Success, Exit::Signal);
    let released = release(guard).await;
    close_session(&locks).await;
    match (lost, released) {
        (Some(reason), _) => Err(Failure::new(Exit::Lost, format!("{name}: lost: {reason}"))),
        (None, Ok(Release::Released)) => Ok(exit),
        (None, Ok(_)) => Err(Failure::new(
            Exit::Lost,
            format!("{name}: the lock had been lost before the release"),
        )),
        (None, Err(why)) => {
            say(format!(
                "{name}: {why}; the lock is free within {} s",
                ttl.as_secs_f64()
            ));
            Ok(exit)
        }
    }
}

/// Waits until stdin has ended; for ever if it is not read.
async fn wait_for_end(stdin_end: &mut Option<impl Future<Output = ()> + Unpin>) {
    match stdin_end {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}

/// Starts to read stdin, and throws away what it reads. Returns a future that resolves at the end.
fn watch_stdin() -> Result<impl Future<Output = ()>, Failure> {
    let unreadable =
        |error: io::Error| Failure::new(Exit::File, format!("cannot read stdin: {error}"));
    let input = fcntl_dupfd_cloexec(stdin(), 3).map_err(|error| unreadable(error.into()))?;
    let mut input = File::from(input);
    let kind = FileType::from_raw_mode(fstat(&input).map_err(|e| unreadable(e.into()))?.st_mode);
    if kind == FileType::RegularFile || is_at_end(&mut input).map_err(unreadable)? {
        return Err(Failure::new(
            Exit::Usage,
            "--while-open: stdin is not held open, so the lock would be released at once",
        )
        .hint("give it a pipe whose other end is the script's: see docs/coming-from-flock.md"));
    }
    let (sender, end) = tokio::sync::oneshot::channel::<Infallible>();
    // A read that waits ends only with this process.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let _ = io::copy(&mut input, &mut io::sink());
            drop(sender);
        })
        .map_err(|error| Failure::from_system("cannot start a thread", &error))?;
    Ok(async {
        let _ = end.await;
    })
}

/// Returns whether there is nothing to read, and never will be.
fn is_at_end(input: &mut File) -> io::Result<bool> {
    const NOW: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&NOW))? > 0;
    Ok(ready && input.read(&mut [0; 512])? == 0)
}
