//! The files of access rules and of users. The first byte of an input chooses between them.

#![no_main]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use backend_embedded::server::access::{Access, Right, Rules, Subject, keys_of_one};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use turnlock_fuzz::{folder, memory};

const RULE: &str = "[[rule]]\nsubject = \"*\"\nprefix = \"\"\nright = \"read\"\n";

/// A folder with a file of rules, and with a file of users that is to be written.
struct Files {
    rules: PathBuf,
    users: PathBuf,
    _folder: TempDir,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let folder = folder::make();
    let [rules, users] = ["rules", "users"].map(|name| folder.path().join(name));
    for (path, content) in [(&rules, RULE), (&users, "")] {
        fs::write(path, content).expect("there is room");
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("it is ours");
    }
    Files {
        rules,
        users,
        _folder: folder,
    }
});

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    let Some((choice, text)) = input.split_first() else {
        return;
    };
    let files = &*FILES;
    memory::limit(input, 0, || match choice % 2 {
        0 => read_rules(text),
        _ => {
            fs::write(&files.users, text).expect("there is room");
            // The error is made of what was read.
            let opened = Access::open(&files.rules, Some(files.users.clone()));
            opened.map_or_else(|error| drop(error.to_string()), drop);
        }
    });
});

fn read_rules(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match Rules::parse(text) {
        Ok(rules) => {
            let anybody = Subject::new(Vec::new());
            let keys = keys_of_one(b"team-a/jobs/1");
            let found = rules.find(&anybody, Right::Read, &keys);
            let most = rules.find_most(&anybody, &keys);
            assert_eq!(found.is_some(), most.is_some());
            most.inspect(|rule| assert!(rule.line() <= text.lines().count(), "{rule}"));
        }
        Err(error) => {
            // A fault at the end is on the line after the last one.
            let most = text.matches('\n').count() + 1;
            assert!((1..=most).contains(&error.line()), "{error}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let rules = "# Two teams.\n[[rule]]\nsubject = \"user:alice\"\nnamespace = \"team-a\"\n\
                 right = \"lock\"\n\n[[rule]]\nsubject = \"dns:web.example.org\"\n\
                 prefix = \"jobs/nightly/\"\nright = \"read\"\n";
    let (salt, hash) = ("A".repeat(22), "A".repeat(43));
    let users = format!("# All.\nalice:$pbkdf2-sha256$i=100000${salt}${hash}\n");
    [("0", rules), ("0", RULE), ("1", &users)]
        .map(|(choice, text)| [choice, text].concat().into_bytes())
        .into()
}
