//! What an operation asks of the disk, from the trace of its system calls.

use std::collections::HashMap;

use crate::disk::{Disk, Event, Inode};

/// The options of `strace` for a trace that [`parse`] reads: whole strings, in hexadecimal.
pub const OPTIONS: [&str; 3] = ["-xx", "-s", "65536"];

/// Calls that change a disk and that the parser does not know. The product makes none of them.
const UNKNOWN: [&str; 16] = [
    "copy_file_range",
    "creat",
    "fallocate",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "pwritev",
    "rename",
    "rmdir",
    "sendfile",
    "symlinkat",
    "sync_file_range",
    "truncate",
    "unlink",
    "writev",
];

/// What an open file descriptor is.
#[derive(Debug, Clone, Copy)]
enum Open {
    Folder,
    File { inode: Inode, position: usize },
}

/// Returns what the calls between the two marks of the helper do to this disk, in order. Calls that
/// failed do nothing.
pub fn parse(trace: &str, disk: &Disk) -> Vec<Event> {
    let mut parser = Parser {
        disk: disk.clone(),
        open: HashMap::new(),
        events: Vec::new(),
    };
    let mut marks = 0;
    for line in trace.lines() {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some((name, rest)) = line.trim_start().split_once('(') else {
            continue;
        };
        if name == "getppid" {
            marks += 1;
        } else if marks == 1 {
            let (arguments, result) = rest.rsplit_once(" = ").expect("a call has a result");
            let arguments = arguments.trim_end().trim_end_matches(')');
            let arguments: Vec<&str> = arguments.split(", ").collect();
            let result = result.split(' ').next().and_then(|word| word.parse().ok());
            if let Some(result) = result.filter(|result: &i64| *result >= 0) {
                parser.add(name, &arguments, result as usize);
            }
        }
    }
    assert_eq!(marks, 2, "the trace has both marks: {trace}");
    parser.events
}

struct Parser {
    /// The disk as the operation sees it.
    disk: Disk,
    open: HashMap<usize, Open>,
    events: Vec<Event>,
}

impl Parser {
    fn add(&mut self, name: &str, arguments: &[&str], result: usize) {
        let number = |at: usize| arguments[at].parse().expect("a number");
        match name {
            "openat" => self.open(&text(arguments[1]), arguments[2], result),
            "close" => drop(self.open.remove(&number(0))),
            "fcntl" if arguments[1].starts_with("F_DUPFD") => {
                let same = self.open[&number(0)];
                self.open.insert(result, same);
            }
            "write" => {
                let (inode, position) = self.file(number(0));
                let data = bytes(arguments[1])[..result].to_vec();
                let end = position + data.len();
                let written = Open::File {
                    inode,
                    position: end,
                };
                self.open.insert(number(0), written);
                self.push(Event::Write {
                    inode,
                    at: position,
                    data,
                });
            }
            "pwrite64" => {
                let (inode, _) = self.file(number(0));
                let data = bytes(arguments[1])[..result].to_vec();
                let at = number(3);
                self.push(Event::Write { inode, at, data });
            }
            "ftruncate" => {
                let (inode, _) = self.file(number(0));
                let length = number(1);
                self.push(Event::Truncate { inode, length });
            }
            "fsync" | "fdatasync" => match self.open[&number(0)] {
                Open::Folder => self.push(Event::SyncFolder),
                Open::File { inode, .. } => self.push(Event::SyncFile { inode }),
            },
            "renameat" | "renameat2" => {
                let (from, to) = (text(arguments[1]), text(arguments[3]));
                let inode = self.disk.names[&from];
                self.push(Event::Rename { from, to, inode });
            }
            "unlinkat" => self.push(Event::Unlink {
                name: text(arguments[1]),
            }),
            unknown => assert!(
                !UNKNOWN.contains(&unknown),
                "{unknown}: teach this parser what it does"
            ),
        }
    }

    fn open(&mut self, name: &str, flags: &str, descriptor: usize) {
        assert!(!flags.contains("O_TRUNC"), "it is not known here");
        if flags.contains("O_DIRECTORY") {
            self.open.insert(descriptor, Open::Folder);
            return;
        }
        if flags.contains("O_CREAT") && !self.disk.names.contains_key(name) {
            let event = Event::Link {
                name: name.to_owned(),
                inode: self.disk.new_inode(),
            };
            self.push(event);
        }
        if let Some(&inode) = self.disk.names.get(name) {
            let file = Open::File { inode, position: 0 };
            self.open.insert(descriptor, file);
        }
    }

    fn file(&self, descriptor: usize) -> (Inode, usize) {
        match self.open.get(&descriptor) {
            Some(Open::File { inode, position }) => (*inode, *position),
            other => panic!("{descriptor} is {other:?}, not a file of the folder"),
        }
    }

    fn push(&mut self, event: Event) {
        self.disk.apply(&event);
        self.events.push(event);
    }
}

/// Returns the bytes of a string in hexadecimal: `"\x61\x62"`.
fn bytes(argument: &str) -> Vec<u8> {
    let digits = argument.trim_matches('"').split("\\x").skip(1);
    digits
        .map(|byte| u8::from_str_radix(byte, 16).expect("two digits"))
        .collect()
}

fn text(argument: &str) -> String {
    String::from_utf8(bytes(argument)).expect("names are text")
}
