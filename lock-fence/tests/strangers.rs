//! What another user can do to a fence in a folder that everybody may write, and what not. Needs the
//! superuser, who makes files of other users.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lock_core::{LockName, Token};
use lock_fence::{Error, ErrorKind, Fence, FencedFile, FencingToken, read};
use tempfile::TempDir;

const STRANGER: u32 = 65534;

/// A folder of the superuser.
struct Folder(TempDir);

impl Folder {
    /// Makes one that everybody may write, with the sticky bit.
    fn sticky() -> Self {
        Folder::with_mode(0o1777)
    }

    fn with_mode(mode: u32) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes files of other users: run it as root"
        );
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).expect("ours");
        Folder(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(&self, name: &str, owner: u32) -> PathBuf {
        self.with_text(name, owner, "old")
    }

    /// Makes a file. The text is written first: with `fs.protected_regular`, not even the superuser
    /// opens the file of another user in such a folder as one that may be new.
    fn with_text(&self, name: &str, owner: u32, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("writable");
        chown(&path, Some(owner), Some(owner)).expect("root");
        path
    }

    fn link(&self, name: &str, target: &Path, owner: u32) -> PathBuf {
        let path = self.file(name);
        symlink(target, &path).expect("made");
        lchown(&path, Some(owner), Some(owner)).expect("root");
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("readable");
        let names = entries.map(|entry| entry.expect("readable").file_name().into_string());
        let mut names: Vec<String> = names.map(|name| name.expect("text")).collect();
        names.sort();
        names
    }
}

fn token(number: u64) -> FencingToken {
    FencingToken::new(LockName::new("ledger").expect("valid"), Token(number))
}

fn fenced(path: &Path) -> FencedFile {
    FencedFile::new(path, token(7))
}

/// Changes the file in every way. Returns the outcomes.
fn change_all(path: &Path) -> Vec<Result<(), Error>> {
    vec![
        fenced(path).replace(b"new"),
        fenced(path).append(b"new"),
        fenced(path).edit(|_| Ok::<_, Error>(b"new".to_vec())),
    ]
}

/// Uses the path in every way. Returns the outcomes.
fn use_all(path: &Path) -> Vec<Result<(), Error>> {
    let mut outcomes = change_all(path);
    outcomes.push(Fence::new(path).admit(&token(7)));
    outcomes.push(Fence::new(path).highest().map(drop));
    outcomes.push(read(path).map(drop));
    outcomes
}

fn assert_refused(outcome: Result<(), Error>, kind: ErrorKind, why: &str) {
    let error = outcome.expect_err("a stranger's");
    let said = error.to_string();
    assert_eq!(error.kind(), kind, "{said}");
    assert!(said.contains(why) && said.contains("65534"), "{said}");
}

#[test]
fn a_strangers_link_is_not_followed_wherever_it_is_in_the_path() {
    let ours = Folder::with_mode(0o755);
    let precious = ours.with("precious", 0);
    let folder = Folder::sticky();
    let at_the_end = folder.link("at-the-end", &precious, STRANGER);
    let to_folder = folder.link("on-the-way", ours.0.path(), STRANGER);
    let hidden = ours.link("hidden", &at_the_end, 0);
    for path in [&at_the_end, &to_folder.join("precious"), &hidden] {
        for outcome in use_all(path) {
            assert_refused(outcome, ErrorKind::Unsuitable, "symbolic link");
        }
    }
    assert_eq!(fs::read(&precious).expect("readable"), b"old");
    assert_eq!(ours.names(), ["hidden", "precious"], "no mark either");
    assert_eq!(folder.names(), ["at-the-end", "on-the-way"]);
}

#[test]
fn links_of_ours_and_of_the_folders_owner_are_followed_and_others_outside_of_such_folders() {
    let ours = Folder::with_mode(0o755);
    let precious = ours.with("precious", 0);
    let folder = Folder::sticky();
    let mut links = vec![folder.link("ours", &precious, 0)];
    let theirs = Folder::sticky();
    links.push(theirs.link("the-owners", &precious, STRANGER));
    chown(theirs.0.path(), Some(STRANGER), Some(STRANGER)).expect("root");
    for mode in [0o777, 0o1775, 0o755] {
        let folder = Folder::with_mode(mode);
        let link = folder.link("a-strangers", &precious, STRANGER);
        fenced(&link).append(b"!").expect("followed");
    }
    for link in links {
        fenced(&link).append(b"!").expect("followed");
    }
    assert_eq!(fs::read(&precious).expect("readable"), b"old!!!!!");
}

#[test]
fn a_strangers_file_is_not_given_new_content() {
    let folder = Folder::sticky();
    let path = folder.with("report", STRANGER);
    for outcome in change_all(&path) {
        assert_refused(outcome, ErrorKind::Unsuitable, "fs.protected_regular");
    }
    assert_eq!(fs::read(&path).expect("readable"), b"old");
    assert_eq!(folder.names(), ["report"]);
    let elsewhere = Folder::with_mode(0o777);
    let path = elsewhere.with("report", STRANGER);
    fenced(&path).replace(b"new").expect("as the kernel has it");
}

#[test]
fn a_strangers_mark_is_not_trusted() {
    let folder = Folder::sticky();
    let path = folder.with("report", 0);
    // Empty, as a stranger would make it: it would admit every token.
    let mark = folder.with_text(".report.fence", STRANGER, "");
    for outcome in use_all(&path) {
        assert_refused(outcome, ErrorKind::Untrusted, ".report.fence");
    }
    assert_eq!(fs::read(&path).expect("readable"), b"old");
    assert_eq!(
        fs::read(&mark).expect("readable"),
        b"",
        "nothing is written"
    );
    assert_eq!(folder.names(), [".report.fence", "report"]);
    fs::remove_file(&mark).expect("removable");
    fenced(&path).replace(b"new").expect("as the message says");
}

#[test]
fn the_owners_of_the_folder_and_of_the_resource_may_own_its_mark() {
    let folder = Folder::sticky();
    chown(folder.0.path(), Some(STRANGER), Some(STRANGER)).expect("root");
    let path = folder.with("report", 0);
    folder.with_text(".report.fence", STRANGER, "");
    fenced(&path).replace(b"new").expect("the folder's owner");

    let folder = Folder::sticky();
    let path = folder.with("theirs", STRANGER);
    folder.with_text(".theirs.fence", STRANGER, "");
    Fence::new(&path).admit(&token(7)).expect("the owner's");

    let folder = Folder::with_mode(0o777);
    let path = folder.with("report", 0);
    folder.with_text(".report.fence", STRANGER, "");
    fenced(&path).replace(b"new").expect("no sticky bit");
}

/// Returns whether another user can lock this file, and what it was told.
fn can_lock(path: &Path) -> (bool, String) {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "flock"])
        .args(["--nonblock".as_ref(), path.as_os_str()])
        .arg("true")
        .output()
        .expect("setpriv and flock are there (Debian: util-linux)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

#[test]
fn who_can_only_read_a_file_cannot_lock_its_mark() {
    let folder = Folder::with_mode(0o755);
    let path = folder.with("ledger", 0);
    let mark = folder.file(".ledger.fence");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("ours");
    fenced(&path).append(b"!").expect("admitted");
    let (can, said) = can_lock(&mark);
    assert!(!can && said.contains("Permission denied"), "{said}");
    // Who may write the file may lock its mark.
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("ours");
    fs::remove_file(&mark).expect("removable");
    fenced(&path).append(b"!").expect("admitted");
    let (can, said) = can_lock(&mark);
    assert!(can, "{said}");
}

#[test]
fn a_mark_that_readers_have_open_is_exchanged_by_the_next_write() {
    let folder = Folder::with_mode(0o755);
    let path = folder.with("ledger", 0);
    let mark = folder.file(".ledger.fence");
    fenced(&path).append(b"!").expect("admitted");
    // As earlier versions made it.
    fs::set_permissions(&mark, PermissionsExt::from_mode(0o644)).expect("ours");
    let reader = fs::File::open(&mark).expect("readable");
    let earlier = FencedFile::new(&path, token(6));
    assert!(earlier.append(b"6").expect_err("stale").is_stale());
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&mark), 0o644, "a refusal changes nothing");
    fenced(&path).append(b"?").expect("admitted");
    assert_eq!(mode(&mark), 0o600);
    // The lock of a file that was exchanged keeps nobody out.
    reader.lock().expect("free");
    fenced(&path).append(b".").expect("admitted");
    assert!(earlier.append(b"6").expect_err("stale").is_stale());
    assert_eq!(fs::read(&path).expect("readable"), b"old!?.");
    assert_eq!(folder.names(), [".ledger.fence", "ledger"]);
}
