//! Full disks, read-only mounts, folders that are gone, files of others: a clear error, nothing
//! changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use libtest_mimic::Trial;
use lock_fence::{Fence, FencedFile};
use tempfile::TempDir;

use crate::helper::{OPERATIONS, arguments, program, token};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for operation in OPERATIONS {
        trials.push(Trial::test(
            format!("{operation}_on_a_full_disk"),
            move || {
                full(operation);
                Ok(())
            },
        ));
        trials.push(Trial::test(
            format!("{operation}_on_a_read_only_mount"),
            move || {
                read_only(operation);
                Ok(())
            },
        ));
        trials.push(Trial::test(
            format!("{operation}_in_a_folder_that_is_removed"),
            move || {
                removed(operation);
                Ok(())
            },
        ));
    }
    trials.push(Trial::test("a_file_of_anothers_is_not_taken_over", || {
        of_another();
        Ok(())
    }));
    trials.push(Trial::test(
        "a_reader_is_told_that_the_mark_is_the_writers",
        || {
            reader();
            Ok(())
        },
    ));
    trials
}

/// Runs a script in a mount namespace of its own, with a small file system in memory on `disk`.
/// `$@` is the change to be made.
fn in_namespace(script: &str, dir: &Path, change: &[String]) -> Output {
    let mut unshare = program("unshare", "util-linux");
    unshare.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        // The kernel lets users mount in a user namespace of their own, unless its settings forbid
        // it.
        unshare.args(["--user", "--map-root-user"]);
    }
    let script =
        format!("set -e; cd \"$0\"; mount -t tmpfs -o size=256k,mode=0755 none disk; {script}");
    let output = unshare
        .args(["sh", "-c", &script])
        .arg(dir)
        .args(change)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("unshare starts");
    assert!(
        output.status.success(),
        "this test mounts a file system: if that was refused, run it as root or let users have \
         namespaces: {output:?}"
    );
    output
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    fs::create_dir(dir.path().join("disk")).expect("made");
    dir
}

/// Checks that the change fails with the reason in a namespace that is made like this, and leaves
/// the disk unchanged.
fn fails(operation: &str, prepare: &str, says: &str) {
    let dir = folder();
    let path = dir.path().join("disk/ledger");
    // Written with token 5 before, so that there is a mark.
    let before = arguments("replace", &path, 5);
    let before = before
        .iter()
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(" ");
    // These admit the token before they know that there is no room.
    let mark = match operation {
        "append" | "edit" => "",
        _ => "disk/.ledger.fence",
    };
    // An append that finds no room has written a part, and cuts it off again: that shows in the
    // time of the last change, whenever a second ends in between.
    let kept = match operation {
        "append" => "%i %s",
        _ => "%i %s %Y",
    };
    let script = format!(
        "echo old | {before}
         {prepare}
         state() {{ ls -A disk; cat disk/ledger {mark}; stat -c '{kept}' disk/ledger; }}
         state >was
         if head -c 300000 /dev/zero | \"$@\" 2>said; then echo 'it did not fail'; exit 1; fi
         state >is
         cmp was is && cat said"
    );
    let output = in_namespace(&script, dir.path(), &arguments(operation, &path, 7));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(says) && said.contains("ledger"), "{output:?}");
}

fn full(operation: &str) {
    let fill = "head -c 1000000 /dev/zero >disk/filler 2>/dev/null || true";
    if operation != "admit" {
        return fails(operation, fill, "StorageFull");
    }
    // The mark of a file that has one is written in place: a full disk does not shut the fence.
    let dir = folder();
    let path = dir.path().join("disk/ledger");
    let first = arguments("admit", &path, 5);
    let first = first
        .iter()
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(" ");
    let script = format!("{first} </dev/null; {fill}; \"$@\" </dev/null; cat disk/.ledger.fence");
    let output = in_namespace(&script, dir.path(), &arguments("admit", &path, 7));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("token=7 "),
        "{output:?}"
    );
}

fn read_only(operation: &str) {
    fails(operation, "mount -o remount,ro disk", "ReadOnlyFilesystem");
}

fn removed(operation: &str) {
    let dir = folder();
    let path = dir.path().join("disk/ledger");
    fs::remove_dir(dir.path().join("disk")).expect("empty");
    let error = crate::helper::change(operation, &path, token(7), b"x").expect_err("no folder");
    assert_eq!(
        error.kind(),
        lock_fence::ErrorKind::Io(std::io::ErrorKind::NotFound)
    );
    assert!(error.to_string().contains("disk"), "{error}");
    assert!(fs::read_dir(dir.path()).expect("readable").next().is_none());
}

/// Checks what a user is told who may read a file and not write it, so that the mark stays closed.
fn reader() {
    let dir = folder();
    let path = dir.path().join("disk/ledger");
    let script =
        "echo old >disk/ledger; echo mark >disk/.ledger.fence; chmod 0600 disk/.ledger.fence
                  if setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$@\" 2>said
                  then echo 'it did not fail'; exit 1; fi
                  cat said";
    if !rustix::process::geteuid().is_root() {
        panic!("this test becomes another user: run it as root");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let output = in_namespace(script, dir.path(), &arguments("read", &path, 7));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("PermissionDenied"), "{said}");
    assert!(said.contains("only users who may write"), "{said}");
}

/// Checks that a file of another user is not replaced: the replacement would take the file away
/// from its owner. A file that we may not write is not replaced either.
fn of_another() {
    let dir = folder();
    let path = dir.path().join("disk/ledger");
    let script = "echo old >disk/ledger; chmod 0666 disk/ledger; chmod 0777 disk .
                  as() {
                      user=$1; shift
                      setpriv --reuid=\"$user\" --regid=\"$user\" --clear-groups -- \"$@\"
                  }
                  if echo new | as 65534 \"$@\" 2>said; then echo 'it did not fail'; exit 1; fi
                  cat said
                  chmod 0644 disk/ledger
                  if echo new | as 65534 \"$@\" 2>said; then echo 'it did not fail'; exit 1; fi
                  cat said disk/ledger; stat -c 'owned by %u' disk/ledger";
    if !rustix::process::geteuid().is_root() {
        panic!("this test becomes another user: run it as root");
    }
    let output = in_namespace(script, dir.path(), &arguments("replace", &path, 7));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("would lose its owner 0:0"), "{said}");
    assert!(said.contains("cannot open"), "{said}");
    assert!(said.ends_with("old\nowned by 0\n"), "{said}");

    // The superuser keeps it whose it is, and its mark as well.
    let path = dir.path().join("theirs");
    fs::write(&path, "old").expect("writable");
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).expect("root");
    FencedFile::new(&path, token(5))
        .replace(b"new")
        .expect("admitted");
    for name in ["theirs", ".theirs.fence"] {
        let found = fs::metadata(dir.path().join(name)).expect("there");
        let owner = std::os::unix::fs::MetadataExt::uid(&found);
        assert_eq!(owner, 65534, "{name}");
    }
    assert!(
        Fence::new(&path)
            .admit(&token(4))
            .expect_err("stale")
            .is_stale()
    );
}
