//! Defines the messages between the supervisor and the watchdog, over a socket pair.
//!
//! First the supervisor sends what to start, with the command's standard streams. From then on each
//! side sends messages of one size. The kernel takes such a message as a whole or not at all, so
//! that neither side has to wait for the other to read.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use turnlock::clock::BootInstant;

use super::ended::Ended;
use super::signals::Sender;

/// The command that the watchdog starts, and how it is to be guarded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Variables that are set over the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// The process group of the command.
    pub group: i32,
    /// The time for the remaining processes to clean up when a signal to the supervisor has ended
    /// the command.
    pub grace: Duration,
    /// Whether everything that the command leaves running counts as the command.
    pub whole: bool,
    /// The instant at which the command is killed, unless the deadline is moved on before.
    pub deadline: Option<BootInstant>,
    /// The input of this program in another role, which runs when the supervisor has died and the
    /// command with it. Empty if there is nothing to do then.
    pub last_will: Vec<u8>,
}

impl Start {
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_field(&mut body, &self.group.to_le_bytes());
        put_field(&mut body, &to_millis(self.grace).to_le_bytes());
        put_field(&mut body, &[self.whole.into()]);
        let deadline = self.deadline.map(|at| at.as_nanos().to_le_bytes());
        put_field(&mut body, deadline.as_ref().map_or(&[], |at| &at[..]));
        put_field(&mut body, &self.last_will);
        put_field(&mut body, &(self.env.len() as u64).to_le_bytes());
        for (name, value) in &self.env {
            put_field(&mut body, name.as_bytes());
            put_field(&mut body, value.as_bytes());
        }
        for word in &self.command {
            put_field(&mut body, word.as_bytes());
        }
        let mut frame = (body.len() as u64).to_le_bytes().to_vec();
        frame.append(&mut body);
        frame
    }

    pub fn receive(mut line: &UnixStream) -> io::Result<Self> {
        let mut length = [0; 8];
        line.read_exact(&mut length)?;
        let mut body = Vec::new();
        line.take(u64::from_le_bytes(length))
            .read_to_end(&mut body)?;
        Start::decode(&body).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn decode(mut rest: &[u8]) -> Option<Self> {
        let group = i32::from_le_bytes(take_field(&mut rest)?.try_into().ok()?);
        let grace = u64::from_le_bytes(take_field(&mut rest)?.try_into().ok()?);
        let whole = take_field(&mut rest)? == [1];
        let deadline = match take_field(&mut rest)? {
            [] => None,
            at => Some(u64::from_le_bytes(at.try_into().ok()?)),
        };
        let last_will = take_field(&mut rest)?.to_vec();
        let word =
            |rest: &mut &[u8]| take_field(rest).map(|word| OsString::from_vec(word.to_vec()));
        let variables = u64::from_le_bytes(take_field(&mut rest)?.try_into().ok()?);
        let mut env = Vec::new();
        for _ in 0..variables {
            env.push((word(&mut rest)?, word(&mut rest)?));
        }
        let mut command = Vec::new();
        while !rest.is_empty() {
            command.push(word(&mut rest)?);
        }
        Some(Start {
            command,
            env,
            group,
            grace: Duration::from_millis(grace),
            whole,
            deadline: deadline.map(BootInstant::from_nanos),
            last_will,
        })
    }
}

fn put_field(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend((bytes.len() as u64).to_le_bytes());
    body.extend(bytes);
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_at_checked(8)?;
    let length = u64::from_le_bytes(length.try_into().ok()?);
    let (bytes, behind) = behind.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(bytes)
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sends the command's stdin, stdout and stderr, with one byte without a meaning.
pub(super) fn send_streams(line: &UnixStream, streams: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(&streams));
    let word = [IoSlice::new(&[0])];
    retry_on_intr(|| sendmsg(line, &word, &mut rights, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives the command's streams. Returns `None` if the supervisor is gone.
pub(super) fn receive_streams(line: &UnixStream) -> io::Result<Option<[OwnedFd; 3]>> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let message = retry_on_intr(|| {
        let mut word = [IoSliceMut::new(&mut word)];
        recvmsg(line, &mut word, &mut rights, RecvFlags::CMSG_CLOEXEC)
    })?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let streams: Vec<OwnedFd> = rights
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(streams) => Some(streams),
            _ => None,
        })
        .flatten()
        .collect();
    // The kernel drops descriptors above the limit of this process.
    let streams = streams.try_into().map_err(|_| Errno::MFILE)?;
    Ok(Some(streams))
}

/// The size of a message: one byte for its kind, and a number.
pub(super) const MESSAGE: usize = 9;

fn encode_message(kind: u8, number: u64) -> [u8; MESSAGE] {
    let mut bytes = [kind; MESSAGE];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn decode_message(bytes: [u8; MESSAGE]) -> (u8, u64) {
    let [kind, number @ ..] = bytes;
    (kind, u64::from_le_bytes(number))
}

/// A message from the supervisor to the watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The command may run until this instant.
    Deadline(BootInstant),
    /// This signal was sent to the supervisor.
    Signal(i32, Sender),
    /// End the command and all that it started: with TERM and this time to clean up, or at once
    /// with KILL.
    End(Option<Duration>),
}

impl Order {
    pub fn encode(self) -> [u8; MESSAGE] {
        match self {
            Order::Deadline(at) => encode_message(b'd', at.as_nanos()),
            Order::Signal(signal, Sender::Kernel) => {
                encode_message(b'k', signal.unsigned_abs().into())
            }
            Order::Signal(signal, Sender::Process(process)) => {
                let number = u64::from(process.unsigned_abs()) << 32;
                encode_message(b's', number | u64::from(signal.unsigned_abs()))
            }
            Order::End(None) => encode_message(b'e', 0),
            Order::End(Some(grace)) => encode_message(b'e', to_millis(grace).saturating_add(1)),
        }
    }

    pub fn decode(bytes: [u8; MESSAGE]) -> Option<Self> {
        let (kind, number) = decode_message(bytes);
        // Each half of the number fits.
        let (low, high) = ((number & 0xffff_ffff) as i32, (number >> 32) as i32);
        match kind {
            b'd' => Some(Order::Deadline(BootInstant::from_nanos(number))),
            b'k' => Some(Order::Signal(low, Sender::Kernel)),
            b's' => Some(Order::Signal(low, Sender::Process(high))),
            b'e' => Some(Order::End(number.checked_sub(1).map(Duration::from_millis))),
            _ => None,
        }
    }
}

/// A message from the watchdog to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// The command was started.
    Started,
    /// The command could not be executed, with this error number.
    Failed(i32),
    /// The command has ended. If a signal to the supervisor was the reason, the processes that it
    /// left running are ended as well.
    Ended { ended: Ended, through_us: bool },
    /// All that the command started has ended, too.
    AllEnded,
    /// This process could not be ended, and perhaps others could not either.
    Survivor(i32),
}

impl Report {
    pub fn encode(self) -> [u8; MESSAGE] {
        match self {
            Report::Started => encode_message(b's', 0),
            Report::Failed(errno) => encode_message(b'f', errno.unsigned_abs().into()),
            Report::Ended { ended, through_us } => encode_message(
                b'e',
                u64::from(through_us) << 32 | u64::from(ended.to_bits()),
            ),
            Report::AllEnded => encode_message(b'a', 0),
            Report::Survivor(process) => encode_message(b'v', process.unsigned_abs().into()),
        }
    }

    pub fn decode(bytes: [u8; MESSAGE]) -> Option<Self> {
        let (kind, number) = decode_message(bytes);
        match kind {
            b's' => Some(Report::Started),
            b'f' => Some(Report::Failed(number as i32)),
            b'e' => Some(Report::Ended {
                ended: Ended::from_bits(number as u16),
                through_us: number >> 32 == 1,
            }),
            b'a' => Some(Report::AllEnded),
            b'v' => Some(Report::Survivor(number as i32)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        for order in [
            Order::Deadline(BootInstant::from_nanos(1 << 60)),
            Order::Signal(15, Sender::Kernel),
            Order::Signal(2, Sender::Process(4_194_303)),
            Order::End(None),
            Order::End(Some(Duration::ZERO)),
            Order::End(Some(Duration::from_millis(1500))),
        ] {
            assert_eq!(Order::decode(order.encode()), Some(order));
        }
        for report in [
            Report::Started,
            Report::Failed(2),
            Report::Ended {
                ended: Ended::Killed(9),
                through_us: true,
            },
            Report::AllEnded,
            Report::Survivor(4_194_303),
        ] {
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
    }

    #[test]
    fn a_start_is_bytes_not_text() {
        let start = Start {
            command: vec![
                OsString::from_vec(vec![0xff, b'a']),
                "".into(),
                "b c".into(),
            ],
            env: vec![("A".into(), OsString::from_vec(vec![0xfe]))],
            group: 4711,
            grace: Duration::from_millis(2500),
            whole: true,
            deadline: Some(BootInstant::from_nanos(7)),
            last_will: b"{}".to_vec(),
        };
        assert_eq!(Start::decode(&start.encode()[8..]), Some(start));
        assert_eq!(Start::decode(&[1, 2, 3]), None);
    }
}
