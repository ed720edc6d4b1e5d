//! What a fenced file does, and what becomes of its links, permissions and attributes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lock_core::{LockName, Mode, Token};
use lock_fence::{Error, ErrorKind, Fence, FencedFile, FencingToken, MAX_TOKEN, read};
use tempfile::TempDir;

fn token(number: u64) -> FencingToken {
    FencingToken::new(LockName::new("ledger").expect("valid"), Token(number))
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        // Not in the system's folder, which may be in memory and keep no attributes.
        Folder(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.file(name), content).expect("writable");
        self.file(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .expect("readable")
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        names.sort();
        names
    }
}

fn fenced(path: &Path, number: u64) -> FencedFile {
    FencedFile::new(path, token(number))
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).expect("readable")
}

fn unsuitable(outcome: Result<(), Error>, why: &str) {
    let error = outcome.expect_err("cannot be fenced");
    assert_eq!(error.kind(), ErrorKind::Unsuitable, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn a_stale_token_changes_not_one_byte() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    fenced(&path, 7).replace(b"seven").expect("admitted");
    let before = fs::metadata(&path).expect("there");
    let mark = fs::read(folder.file(".ledger.fence")).expect("there");
    let late = fenced(&path, 6);
    for outcome in [
        late.replace(b"six"),
        late.append(b"six"),
        late.edit(|_| Ok::<_, Error>(b"six".to_vec())),
        Fence::new(&path).admit(&token(6)),
    ] {
        let error = outcome.expect_err("stale");
        assert_eq!(
            error.kind(),
            ErrorKind::Stale {
                offered: Token(6),
                highest: Token(7)
            }
        );
        let text = error.to_string();
        assert!(
            text.contains("stale token") && text.contains('6') && text.contains('7'),
            "{text}"
        );
        assert!(text.contains("\"ledger\""), "{text}");
    }
    let after = fs::metadata(&path).expect("there");
    assert_eq!(content(&path), "seven");
    assert_eq!(
        (after.ino(), after.mtime_nsec()),
        (before.ino(), before.mtime_nsec())
    );
    assert_eq!(fs::read(folder.file(".ledger.fence")).expect("there"), mark);
    assert_eq!(folder.names(), [".ledger.fence", "ledger"]);
}

#[test]
fn the_same_holder_and_later_ones_are_admitted() {
    let folder = Folder::new();
    let path = folder.file("log");
    fenced(&path, 3).append(b"a\n").expect("makes the file");
    fenced(&path, 3).append(b"b\n").expect("the same holder");
    fenced(&path, 9).append(b"c\n").expect("a later one");
    fenced(&path, 9).append(b"").expect("nothing to write");
    assert_eq!(content(&path), "a\nb\nc\n");
    fenced(&path, MAX_TOKEN.0)
        .edit(|old| Ok::<_, Error>([old, b"d\n"].concat()))
        .expect("the last one there can be");
    assert_eq!(read(&path).expect("readable"), b"a\nb\nc\nd\n");
    assert_eq!(
        Fence::new(&path).highest().expect("a mark"),
        Some(token(MAX_TOKEN.0))
    );
}

#[test]
fn a_token_that_no_coordinator_gives_poisons_no_file() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    let fence = Fence::new(&path);
    for number in [MAX_TOKEN.0 + 1, u64::MAX] {
        for outcome in [
            fenced(&path, number).replace(b"x"),
            fenced(&path, number).append(b"x"),
            fenced(&path, number).begin_edit().map(drop),
            fence.admit(&token(number)),
        ] {
            let error = outcome.expect_err("too high");
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
            let said = error.to_string();
            assert!(said.contains(&number.to_string()), "{said}");
            assert!(said.contains("9223372036854775807 at most"), "{said}");
        }
    }
    assert_eq!(folder.names(), ["ledger"], "no mark");
    fenced(&path, 1).replace(b"one").expect("still admitted");
}

#[test]
fn a_mark_that_is_absurdly_high_names_the_way_out() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    // An earlier version admitted it.
    let poisoned = "turnlock-fence-1 token=18446744073709551615 inode=0 born=0 at=0 bytes=0 \
                    crc=00000000";
    let lock = "lock ledger\n";
    let check = crc32fast::hash(format!("{poisoned}{lock}").as_bytes());
    let line = format!("{poisoned} check={check:08x}");
    let mark = folder.with(".ledger.fence", &format!("{line:<255}\n{lock}"));
    for (highest, number) in [(u64::MAX, 7), (MAX_TOKEN.0, 7)] {
        let error = fenced(&path, number).replace(b"x").expect_err("stale");
        assert!(error.is_stale(), "{error}");
        let said = error.to_string();
        assert!(said.contains(&highest.to_string()), "{said}");
        assert!(said.contains("remove the mark"), "{said}");
        fs::remove_file(&mark).expect("removable");
        fenced(&path, MAX_TOKEN.0)
            .replace(b"new")
            .expect("as the message says");
    }
}

#[test]
fn an_edit_that_fails_or_panics_changes_nothing() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    let error = fenced(&path, 1)
        .edit(|_| Err("not JSON"))
        .expect_err("the caller's own");
    assert_eq!(error.kind(), ErrorKind::Edit);
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.to_string(), "not JSON");
    let file = fenced(&path, 1);
    let panicked = std::panic::catch_unwind(|| {
        file.edit(|_| -> Result<Vec<u8>, Error> { panic!("in the middle") })
    });
    assert!(panicked.is_err());
    assert_eq!(content(&path), "old");
    file.replace(b"new").expect("nothing stays locked");
    assert_eq!(content(&path), "new");
}

#[test]
fn an_edit_is_refused_if_a_later_holder_came_in_between() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    let file = fenced(&path, 5);
    let edit = file.begin_edit().expect("admitted");
    // An earlier one cannot come in between any more: its change would be lost under ours.
    assert!(
        fenced(&path, 4)
            .replace(b"four")
            .expect_err("stale")
            .is_stale()
    );
    fenced(&path, 6).replace(b"six").expect("admitted");
    assert!(edit.commit(b"five").expect_err("stale").is_stale());
    assert_eq!(content(&path), "six");
}

#[test]
fn an_edit_notices_changes_under_its_token_or_without_a_fence() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    let changes: [&dyn Fn(); 4] = [
        &|| fenced(&path, 5).append(b"!").expect("admitted"),
        &|| fenced(&path, 5).replace(b"new").expect("admitted"),
        &|| fs::write(&path, "by hand").expect("writable"),
        &|| fs::remove_file(&path).expect("removable"),
    ];
    for change in changes {
        let file = fenced(&path, 5);
        let edit = file.begin_edit().expect("admitted");
        change();
        let error = edit.commit(b"mine").expect_err("changed meanwhile");
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    }
    assert!(!path.exists());
    fenced(&path, 5)
        .edit(|old| {
            assert!(old.is_empty());
            Ok::<_, Error>(b"made".to_vec())
        })
        .expect("an absent file is empty");
    assert_eq!(content(&path), "made");
}

#[test]
fn readers_and_other_locks_do_not_write() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    let shared = token(5).with_mode(Mode::Shared);
    let error = FencedFile::new(&path, shared)
        .replace(b"x")
        .expect_err("a reader");
    assert_eq!(error.kind(), ErrorKind::Shared);
    assert_eq!(folder.names(), ["ledger"]);

    fenced(&path, 5).replace(b"five").expect("admitted");
    let other = FencingToken::new(LockName::new("other").expect("valid"), Token(99));
    let error = FencedFile::new(&path, other)
        .replace(b"x")
        .expect_err("not comparable");
    assert_eq!(error.kind(), ErrorKind::OtherLock);
    let text = error.to_string();
    assert!(
        text.contains("\"ledger\"") && text.contains("\"other\""),
        "{text}"
    );
    let raw = FencingToken::new(LockName::raw("ledger").expect("valid"), Token(99));
    let error = FencedFile::new(&path, raw)
        .replace(b"x")
        .expect_err("another lock");
    assert_eq!(error.kind(), ErrorKind::OtherLock);
    assert_eq!(content(&path), "five");
}

#[test]
fn a_damaged_mark_is_not_trusted() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    fenced(&path, 5).replace(b"five").expect("admitted");
    let mark = folder.file(".ledger.fence");
    let text = content(&mark).replace("token=5", "token=4");
    fs::write(&mark, text).expect("writable");
    for outcome in [
        fenced(&path, 9).replace(b"nine"),
        Fence::new(&path).highest().map(drop),
        read(&path).map(drop),
    ] {
        let error = outcome.expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Untrusted);
        assert!(error.to_string().contains(".ledger.fence"), "{error}");
    }
    assert_eq!(content(&path), "five");
    fs::remove_file(&mark).expect("removable");
    fenced(&path, 9)
        .replace(b"nine")
        .expect("as the message says");
}

#[test]
fn a_symbolic_link_is_followed() {
    let folder = Folder::new();
    fs::create_dir(folder.file("real")).expect("made");
    let target = folder.with("real/ledger", "old");
    let link = folder.file("link");
    symlink("real/ledger", &link).expect("made");
    fenced(&link, 5).replace(b"five").expect("admitted");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert_eq!(content(&target), "five");
    assert!(
        fenced(&target, 4)
            .replace(b"four")
            .expect_err("one mark")
            .is_stale()
    );
    assert!(folder.file("real/.ledger.fence").exists());

    let dangling = folder.file("dangling");
    symlink("nowhere", &dangling).expect("made");
    unsuitable(
        fenced(&dangling, 5).replace(b"x"),
        "a symbolic link to a missing file",
    );
    assert!(!folder.file("nowhere").exists());
}

#[test]
fn an_unsuitable_file_is_refused_untouched() {
    let folder = Folder::new();
    let one = folder.with("one", "old");
    fs::hard_link(&one, folder.file("two")).expect("made");
    unsuitable(fenced(&one, 5).append(b"x"), "hard links");
    fs::create_dir(folder.file("dir")).expect("made");
    unsuitable(
        fenced(&folder.file("dir"), 5).replace(b"x"),
        "not a regular file",
    );
    unsuitable(
        fenced(&folder.file("none/"), 5).replace(b"x"),
        "names a folder",
    );
    unsuitable(fenced(Path::new("/"), 5).replace(b"x"), "names no file");
    unsuitable(fenced(Path::new(""), 5).replace(b"x"), "names no file");
    let socket = folder.file("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    unsuitable(fenced(&socket, 5).replace(b"x"), "not a regular file");
    let fifo = folder.file("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("made");
    unsuitable(fenced(&fifo, 5).append(b"x"), "not a regular file");
    unsuitable(
        fenced(&folder.file(&"x".repeat(249)), 5).replace(b"x"),
        "at most 248 bytes",
    );
    assert_eq!(content(&one), "old");
    assert_eq!(folder.names(), ["dir", "fifo", "one", "socket", "two"]);
    fenced(&folder.file(&"x".repeat(248)), 5)
        .replace(b"x")
        .expect("just fits");
}

#[test]
fn mode_owner_and_attributes_stay() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    // The bits that a change of owner or content can clear are there, too.
    fs::set_permissions(&path, PermissionsExt::from_mode(0o2750)).expect("ours");
    rustix::fs::setxattr(
        &path,
        "user.kind",
        b"ledger\0 1",
        rustix::fs::XattrFlags::empty(),
    )
    .expect("a file system with attributes");
    let before = fs::metadata(&path).expect("there");
    fenced(&path, 5).replace(b"five").expect("admitted");
    let after = fs::metadata(&path).expect("there");
    assert_ne!(before.ino(), after.ino());
    assert_eq!(after.mode(), before.mode());
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    let mut value = [0; 64];
    let len = rustix::fs::getxattr(&path, "user.kind", &mut value[..]).expect("kept");
    assert_eq!(&value[..len], b"ledger\0 1");
    let mark = fs::metadata(folder.file(".ledger.fence")).expect("there");
    assert_eq!(
        mark.mode() & 0o777,
        0o600,
        "only those who may write the file may open its mark"
    );
}

#[test]
fn a_mark_that_is_no_regular_file_of_its_own_is_refused_untouched() {
    let folder = Folder::new();
    let path = folder.with("ledger", "old");
    let mark = folder.file(".ledger.fence");
    let empty = folder.with("empty", "");
    let make_fifo = || {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &mark, kind, mode, 0).expect("made");
    };
    let makes: [(&dyn Fn(), &str); 5] = [
        (&make_fifo, "not a regular file"),
        (
            &|| fs::create_dir(&mark).expect("made"),
            "not a regular file",
        ),
        (
            &|| symlink(&empty, &mark).expect("made"),
            "not a regular file",
        ),
        (
            &|| drop(std::os::unix::net::UnixListener::bind(&mark).expect("bound")),
            "not a regular file",
        ),
        (
            &|| fs::hard_link(&empty, &mark).expect("made"),
            "hard links",
        ),
    ];
    for (make, why) in makes {
        make();
        for outcome in [
            fenced(&path, 5).replace(b"x"),
            fenced(&path, 5).append(b"x"),
            Fence::new(&path).admit(&token(5)),
            Fence::new(&path).highest().map(drop),
            read(&path).map(drop),
        ] {
            let error = outcome.expect_err("no mark");
            let said = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Untrusted, "{said}");
            assert!(said.contains(why) && said.contains("remove it"), "{said}");
        }
        assert_eq!(content(&path), "old");
        assert_eq!(content(&empty), "");
        assert_eq!(folder.names(), [".ledger.fence", "empty", "ledger"]);
        fs::remove_file(&mark)
            .or_else(|_| fs::remove_dir(&mark))
            .expect("removable");
    }
    fenced(&path, 5)
        .replace(b"five")
        .expect("as the message says");
}

#[test]
fn a_missing_folder_is_named() {
    let folder = Folder::new();
    let gone = folder.file("gone");
    let error = fenced(&gone.join("ledger"), 5)
        .replace(b"x")
        .expect_err("no folder");
    assert_eq!(error.kind(), ErrorKind::Io(std::io::ErrorKind::NotFound));
    assert!(error.to_string().contains("gone"), "{error}");
    assert!(!gone.exists());
}

#[test]
fn changes_of_many_threads_are_ordered_by_token() {
    let folder = Folder::new();
    let path = folder.file("log");
    let accepted = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (path, accepted) = (&path, &accepted);
            scope.spawn(move || {
                for turn in 0..25u64 {
                    let number = turn * 8 + thread;
                    let line = format!("{number}\n");
                    let outcome = match turn % 2 {
                        0 => fenced(path, number).append(line.as_bytes()),
                        _ => fenced(path, number)
                            .edit(|old| Ok::<_, Error>([old, line.as_bytes()].concat())),
                    };
                    match outcome {
                        Ok(()) => accepted.lock().expect("sound").push(number),
                        Err(error) => assert!(error.is_stale(), "{error}"),
                    }
                }
            });
        }
    });
    let written: Vec<u64> = content(&path)
        .lines()
        .map(|line| line.parse().expect("a whole line"))
        .collect();
    assert!(
        written.windows(2).all(|pair| pair[0] < pair[1]),
        "{written:?}"
    );
    let mut accepted = accepted.into_inner().expect("sound");
    accepted.sort_unstable();
    assert_eq!(
        written, accepted,
        "every accepted change is there, and no other"
    );
    assert_eq!(
        written.last(),
        Some(&199),
        "the highest is admitted whenever it comes"
    );
}

#[test]
fn a_fence_stands_for_anything() {
    let folder = Folder::new();
    let fence = Fence::new(folder.file("printer"));
    assert_eq!(fence.highest().expect("no mark yet"), None);
    let inside = fence.enter(&token(5)).expect("admitted");
    let (done, wait) = std::sync::mpsc::channel();
    let other = fence.clone();
    let waiter = std::thread::spawn(move || {
        let outcome = other.admit(&token(6));
        done.send(()).expect("somebody listens");
        outcome
    });
    wait.recv_timeout(std::time::Duration::from_millis(100))
        .expect_err("nobody comes in while another is inside");
    drop(inside);
    waiter.join().expect("no panic").expect("admitted");
    assert!(fence.admit(&token(5)).expect_err("stale").is_stale());
    assert_eq!(folder.names(), [".printer.fence"]);
}
