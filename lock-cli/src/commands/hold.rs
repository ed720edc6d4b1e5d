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
use crate::commands::{Turn, Wish, deadly, mode, name, part, release, turn};
use crate::exit::{Exit, Failure};
use crate::output::{inform, print, print_json, say};

pub async fn hold(global: Global, args: Hold) -> Result<Exit, Failure> {
    let name = name(&args.name, args.acquire.raw)?;
    let mode = mode(&args.flags)?;
    let mut open = match args.while_open {
        true => Some(Box::pin(end_of_stdin()?)),
        false => None,
    };
    let mut signals = Signals::install()?;
    let wish = Wish {
        global: &global,
        name: &name,
        mode,
        options: &args.acquire,
        command: "turnlock hold".to_owned(),
    };
    let unwanted = async {
        tokio::select! {
            exit = deadly(&mut signals) => exit,
            () = ended(&mut open) => {
                inform(format!("{name}: stdin has ended before the lock was acquired"));
                Exit::Of(args.acquire.conflict_exit_code)
            }
        }
    };
    let (locks, guard) = match turn(&wish, unwanted).await? {
        Turn::Ours(locks, guard) => (locks, guard),
        Turn::Interrupted(exit) => return Ok(exit),
    };
    let (token, ttl) = (guard.token(), guard.ttl());
    let printed = match global.json {
        true => print_json(&json!({"name": name.as_str(), "mode": guard.mode(), "token": token})),
        false => print(token.to_string()),
    };
    if let Err(failure) = printed {
        // Whoever was to learn of the lock has not.
        release(guard).await;
        part(&locks).await;
        return Err(failure);
    }
    let (lost, signal) = tokio::select! {
        reason = guard.lost() => (Some(reason), None),
        signal = signals.deadly() => (None, Some(signal)),
        () = ended(&mut open) => (None, None),
    };
    // A TERM is how it is meant to end. Ctrl-C is for the script around us as well.
    let ended = signal
        .filter(|signal| signal.is_a_terminals())
        .map_or(Exit::Success, Exit::Signal);
    let released = release(guard).await;
    part(&locks).await;
    match (lost, released) {
        (Some(reason), _) => Err(Failure::new(Exit::Lost, format!("{name}: lost: {reason}"))),
        (None, Release::AlreadyGone) => Err(Failure::new(
            Exit::Lost,
            format!("{name}: the lock had been lost before the release"),
        )),
        (None, Release::Released) => Ok(ended),
        (None, Release::Unknown) => {
            say(format!(
                "{name}: the coordinator did not answer the release; the lock is free within {} s",
                ttl.as_secs_f64()
            ));
            Ok(ended)
        }
    }
}

/// Resolves when stdin has ended, if it is read at all.
async fn ended(open: &mut Option<impl Future<Output = ()> + Unpin>) {
    match open {
        Some(open) => open.await,
        None => std::future::pending().await,
    }
}

/// Reads stdin and throws it away, until it has ended.
fn end_of_stdin() -> Result<impl Future<Output = ()>, Failure> {
    let unreadable =
        |error: io::Error| Failure::new(Exit::File, format!("cannot read stdin: {error}"));
    let input = fcntl_dupfd_cloexec(stdin(), 3).map_err(|error| unreadable(error.into()))?;
    let mut input = File::from(input);
    let kind = FileType::from_raw_mode(fstat(&input).map_err(|e| unreadable(e.into()))?.st_mode);
    if kind == FileType::RegularFile || at_its_end(&mut input).map_err(unreadable)? {
        return Err(Failure::new(
            Exit::Usage,
            "--while-open: nobody holds stdin open, so the lock would be released at once",
        )
        .hint("give it a pipe whose other end is the script's: see docs/coming-from-flock.md"));
    }
    let (tell, told) = tokio::sync::oneshot::channel::<Infallible>();
    // Nothing ends a read that waits, but the end of this process.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let _ = io::copy(&mut input, &mut io::sink());
            drop(tell);
        })
        .map_err(|error| Failure::of_system("cannot start a thread", &error))?;
    Ok(async {
        let _ = told.await;
    })
}

/// Whether there is nothing to read, and never will be.
fn at_its_end(input: &mut File) -> io::Result<bool> {
    const NOW: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&NOW))? > 0;
    Ok(ready && input.read(&mut [0; 512])? == 0)
}
