//! The launcher: a process that waits to be told to go on, and then becomes the command.
//!
//! Its standard input is a socket from us, and the command's standard input comes over that socket
//! with the word to go on. So no descriptor has to be passed by inheritance, and none can leak into
//! the command. The socket tells us how the execution went: it closes when it succeeds, and carries
//! the error number when it fails.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode};

use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::getppid;
use rustix::stdio::{dup2_stdin, stdin};

use super::helper::{LAUNCHER, this_program};

/// The word to go on.
const GO: u8 = 1;

/// Our end of the socket to a launcher that waits. Dropped, it tells the launcher to give up.
#[derive(Debug)]
pub(super) struct Launch {
    control: UnixStream,
}

/// Starts a launcher in a process group of its own, with the environment of the command.
pub(super) fn start(
    command: &[OsString],
    env: &[(OsString, OsString)],
) -> io::Result<(process::Child, Launch)> {
    let (control, theirs) = UnixStream::pair()?;
    let process = Command::new(this_program()?)
        .arg(LAUNCHER)
        .arg(process::id().to_string())
        .args(command)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(OwnedFd::from(theirs))
        .process_group(0)
        .spawn()?;
    Ok((process, Launch { control }))
}

impl Launch {
    /// Tells the launcher to execute the command with our standard input. Answers when it has, and
    /// the error of the execution if it could not.
    ///
    /// A launcher that was killed meanwhile is a command that was killed right after its start: no
    /// error.
    pub fn go(mut self) -> io::Result<()> {
        let stdin = [stdin()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(&stdin));
        let word = [GO];
        match retry_on_intr(|| {
            sendmsg(
                &self.control,
                &[IoSlice::new(&word)],
                &mut rights,
                SendFlags::empty(),
            )
        }) {
            Ok(_) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut errno = [0; 4];
        match self.control.read_exact(&mut errno) {
            Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The launcher process. Its arguments are the process id of the supervisor and the command.
pub(super) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    // Nobody looks at the status: what went wrong is said on the socket.
    if let Ok(control) = fcntl_dupfd_cloexec(stdin(), 3) {
        let mut control = UnixStream::from(control);
        let error = launch(&control, args)
            .err()
            .and_then(|error| error.raw_os_error());
        let errno = error.unwrap_or(Errno::INVAL.raw_os_error());
        let _ = control.write_all(&errno.to_ne_bytes());
    }
    ExitCode::FAILURE
}

/// Returns only if the command could not be executed.
fn launch(control: &UnixStream, mut args: impl Iterator<Item = OsString>) -> io::Result<()> {
    let supervisor = args.next().ok_or(Errno::INVAL)?;
    let program = args.next().ok_or(Errno::INVAL)?;
    // Should somebody kill the watchdog together with us, the kernel still ends at least the
    // command itself.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // If the supervisor had died before that line, there is no signal to come.
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if supervisor != *parent.to_string() {
        return Err(Errno::SRCH.into());
    }
    dup2_stdin(receive(control)?)?;
    Err(Command::new(program).args(args).exec())
}

/// The descriptor that comes with the word to go on.
fn receive(control: &UnixStream) -> io::Result<OwnedFd> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let message = retry_on_intr(|| {
        recvmsg(
            control,
            &mut [IoSliceMut::new(&mut word)],
            &mut rights,
            RecvFlags::empty(),
        )
    })?;
    if message.bytes == 0 {
        // The supervisor died, or gave up.
        return Err(Errno::PIPE.into());
    }
    let descriptor = rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    // The kernel drops it when there is no room for one more.
    Ok(descriptor.ok_or(Errno::MFILE)?)
}
