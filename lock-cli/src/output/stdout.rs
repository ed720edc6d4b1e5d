//! Prints data on stdout. Its reader may have left, and its disk may be full.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr, write};
use rustix::stdio::stdout;

use crate::exit::{Exit, Failure, Reported};

/// Prints one line of data on stdout.
///
/// # Errors
/// With status 74 if it cannot be written. If the reader has left, nothing is written to stderr.
pub fn print(line: impl AsRef<str>) -> Result<(), Failure> {
    let line = format!("{}\n", line.as_ref());
    write_all(stdout(), line.as_bytes()).map_err(from_stdout_error)
}

/// Prints one line of JSON on stdout, without characters that control a terminal.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(escape_json(&value.to_string()))
}

/// Returns the failure of the next write to stdout, if its reader has left.
pub fn has_reader_left() -> Option<Failure> {
    const NOW: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let out = stdout();
    let mut closed = [PollFd::new(&out, PollFlags::empty())];
    let found = retry_on_intr(|| poll(&mut closed, Some(&NOW)));
    let has_left = found.is_ok() && closed[0].revents().contains(PollFlags::ERR);
    has_left.then(|| from_stdout_error(io::ErrorKind::BrokenPipe.into()))
}

/// Makes the failure of a write to stdout.
pub fn from_stdout_error(error: io::Error) -> Failure {
    let reported = match error.kind() {
        io::ErrorKind::BrokenPipe => Reported::Never,
        _ => Reported::Always,
    };
    Failure {
        reported,
        ..Failure::new(
            Exit::File,
            format!("cannot write to stdout: {}", to_message(&error)),
        )
    }
}

/// Adds to a failure of stdout that the file was changed. The failure is then reported in any case:
/// the status alone would mean that nothing was changed.
pub fn add_changed_file(failure: Failure, file: &std::path::Path) -> Failure {
    let message = format!("{}; {} was changed", failure.message, file.display());
    Failure::new(failure.exit, message)
}

/// Returns the message of the system, without its number.
fn to_message(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Writes all of the bytes. The standard library treats a stdout that is closed or only readable as
/// if it took everything, and gives up on one that is full for the moment.
fn write_all(out: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match retry_on_intr(|| write(out, bytes)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::AGAIN) => {
                let mut room = [PollFd::new(&out, PollFlags::OUT)];
                retry_on_intr(|| poll(&mut room, None))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Escapes the characters that control a terminal as JSON allows. They occur only in strings.
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if super::is_terminal_control(c) {
            // All of them are in the basic plane.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn json_cannot_drive_the_terminal_and_says_the_same() {
        let value = serde_json::json!({"note": "a\u{9b}b\u{202e}c\u{7f}\u{1b}ü😀"});
        let shown = escape_json(&value.to_string());
        assert_eq!(shown, r#"{"note":"a\u009bb\u202ec\u007f\u001bü😀"}"#);
        let read: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(read, value);
    }

    #[test]
    fn a_full_disk_is_reported_and_a_closed_pipe_is_not() {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("there");
        let failure = from_stdout_error(write_all(full.as_fd(), b"x").expect_err("full"));
        assert_eq!(
            failure.message,
            "cannot write to stdout: No space left on device"
        );
        assert_eq!(
            (failure.exit, failure.reported),
            (Exit::File, Reported::Always)
        );

        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        drop(reader);
        let failure = from_stdout_error(write_all(writer.as_fd(), b"x").expect_err("closed"));
        assert_eq!(
            (failure.exit, failure.reported),
            (Exit::File, Reported::Never)
        );
    }

    #[test]
    fn a_pipe_that_is_full_for_the_moment_is_waited_for() {
        use rustix::pipe::{PipeFlags, pipe_with};
        use std::io::Read;
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        // The text is longer than the buffer of a pipe.
        let sent = vec![7; 1 << 20];
        let expected = sent.clone();
        let writing = std::thread::spawn(move || write_all(writer.as_fd(), &sent));
        rustix::io::ioctl_fionbio(&reader, false).expect("ours");
        let mut read = Vec::new();
        std::fs::File::from(reader)
            .read_to_end(&mut read)
            .expect("readable");
        writing.join().expect("no panic").expect("written");
        assert_eq!(read, expected);
    }
}
