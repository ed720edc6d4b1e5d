//! Tests the live view on a pseudo-terminal.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use support::{Home, PATIENCE, code, eventually, holder, signal, text, within};

/// What a terminal shows, as far as the command draws on it: cells, and a cursor that is moved.
#[derive(Default)]
struct Picture {
    cells: BTreeMap<(usize, usize), char>,
    at: (usize, usize),
    /// The beginning of a sequence or of a character whose rest has not been read yet.
    unread: Vec<u8>,
    has_left: bool,
}

impl Picture {
    fn draw(&mut self, bytes: &[u8]) {
        self.unread.extend(bytes);
        let unread = std::mem::take(&mut self.unread);
        let whole = match std::str::from_utf8(&unread) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let mut rest = text(&unread[..whole]);
        while let Some(c) = rest.chars().next() {
            if c != '\u{1b}' {
                self.put(c);
                rest.drain(..c.len_utf8());
                continue;
            }
            // The last byte of a sequence is a letter.
            let end = rest
                .char_indices()
                .skip(2)
                .find(|(_, c)| c.is_ascii_alphabetic());
            let Some((end, last)) = end else {
                break;
            };
            let parameters = rest[2..end].to_owned();
            rest.drain(..=end);
            self.obey(&parameters, last);
        }
        self.unread = [rest.as_bytes(), &unread[whole..]].concat();
    }

    fn put(&mut self, c: char) {
        match c {
            '\r' => self.at.1 = 0,
            '\n' => self.at.0 += 1,
            _ => {
                self.cells.insert(self.at, c);
                self.at.1 += 1;
            }
        }
    }

    fn obey(&mut self, parameters: &str, last: char) {
        match last {
            'H' => {
                let (row, column) = parameters.split_once(';').unwrap_or(("1", "1"));
                let number = |text: &str| text.parse().unwrap_or(1_usize) - 1;
                self.at = (number(row), number(column));
            }
            'J' => self.cells.clear(),
            'l' if parameters == "?1049" => self.has_left = true,
            _ => {}
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new(); ROWS.into()];
        for (&(row, column), &c) in &self.cells {
            if let Some(line) = lines.get_mut(row) {
                let gap = column.saturating_sub(line.chars().count());
                line.extend(std::iter::repeat_n(' ', gap).chain([c]));
            }
        }
        lines
    }
}

/// The height of the terminal.
const ROWS: u16 = 24;

/// `turnlock top` on a terminal.
struct Terminal {
    child: Child,
    screen: File,
    /// Kept open, so that the terminal outlives the command.
    inside: File,
    picture: Arc<Mutex<Picture>>,
}

impl Terminal {
    fn start(home: &Home, columns: u16, args: &[&str]) -> Self {
        let screen: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&screen)
            .and_then(|()| unlockpt(&screen))
            .expect("ours");
        resize(&screen, columns);
        let name = ptsname(&screen, Vec::new()).expect("it has a name");
        let inside = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().expect("text"))
            .expect("ours");
        let again = || inside.try_clone().expect("a descriptor");
        let child = home
            .turnlock(&[&["top", "--interval", "0.1"], args].concat())
            .env("TERM", "xterm-256color")
            .stdin(again())
            .stdout(again())
            .stderr(again())
            .spawn();
        let screen = File::from(screen);
        let picture = Arc::new(Mutex::new(Picture::default()));
        let (mut output, drawn) = (screen.try_clone().expect("a descriptor"), picture.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                drawn.lock().expect("no panic").draw(&bytes[..n]);
            }
        });
        Terminal {
            child: child.expect("starts"),
            screen,
            inside,
            picture,
        }
    }

    fn lines(&self) -> Vec<String> {
        self.picture.lock().expect("no panic").lines()
    }

    /// Waits until a line of the picture has this text.
    fn wait_for(&self, what: &str) {
        eventually(what, || self.lines().iter().any(|line| line.contains(what)));
    }

    fn press(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).expect("open");
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.inside).expect("a terminal");
        !modes
            .local_modes
            .contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits until the command has ended, and returns its status. The terminal is as before.
    fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        within(PATIENCE, "it ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        eventually("the former screen is back", || {
            self.picture.lock().expect("no panic").has_left
        });
        assert!(!self.is_raw(), "keys are lines again");
        status.and_then(|status| status.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(screen: &OwnedFd, columns: u16) {
    let size = Winsize {
        ws_row: ROWS,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(screen, size).expect("a terminal");
}

#[test]
fn locks_are_shown_sorted_and_q_restores_the_terminal() {
    let home = Home::new();
    let note = "a\u{9b}2J note";
    let _holder = holder(&home, &["--note", note, "first"]);
    let mut terminal = Terminal::start(&home, 80, &[]);
    terminal.wait_for("first");
    assert!(terminal.is_raw());
    let _waiter = home.spawn(&["run", "first", "true"]);
    terminal.wait_for("1 waiting");
    terminal.press("n");
    terminal.wait_for("NAME▾");
    terminal.press("h");
    terminal.wait_for("HELD▾");
    // A wider window has more columns.
    let wider = OwnedFd::from(terminal.screen.try_clone().expect("a descriptor"));
    resize(&wider, 160);
    terminal.wait_for("COMMAND");
    let lines = terminal.lines();
    assert!(
        lines.iter().any(|line| line.contains("a\\u{9b}2J note")),
        "{lines:#?}"
    );
    terminal.press("q");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_signal_leaves_a_whole_terminal() {
    let home = Home::new();
    let holding = holder(&home, &["a"]);
    for (sent, status) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let mut terminal = Terminal::start(&home, 80, &[]);
        terminal.wait_for("NAME");
        signal(terminal.child.id(), sent);
        assert_eq!(terminal.ended(), Some(status), "{sent:?}");
    }
    let mut terminal = Terminal::start(&home, 80, &[]);
    terminal.wait_for("1 in use");
    signal(holding.id(), Signal::TERM);
    terminal.wait_for("no lock is in use");
    assert_eq!(code(&home.run(&["stop"])), 0);
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), Some(130));
}

#[test]
fn without_a_terminal_the_commands_for_programs_are_named() {
    let home = Home::new();
    for args in [&["top"][..], &["top", "--json"]] {
        let output = home.run(args);
        assert_eq!(code(&output), 64, "{args:?}");
        let said = text(&output.stderr);
        for instead in ["turnlock watch --json", "turnlock ls --json"] {
            assert!(said.contains(instead), "{said}");
        }
        assert_eq!(text(&output.stdout), "");
    }
}
