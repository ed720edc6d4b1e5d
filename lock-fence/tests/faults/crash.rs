//! Every system call of an operation in turn: the process is killed before it, or the call fails.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use libtest_mimic::Trial;
use lock_fence::{Fence, FencedFile, read};

use crate::helper::{OPERATIONS, token};
use crate::scene::{self, Before, Expected, OLD, Scene, judge, scene};

const INPUT: &[u8] = b"new\n";

/// A system call of the operation: the `ordinal`th of that name in the life of the process.
#[derive(Debug, Clone)]
struct Call {
    name: String,
    ordinal: usize,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Error(&'static str),
}

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for operation in OPERATIONS {
        for before in Before::ALL {
            let name = format!("{operation}_on_{before:?}_is_whole_or_not_at_all").to_lowercase();
            trials.push(Trial::test(name, move || {
                every_call(operation, before);
                Ok(())
            }));
        }
    }
    trials.push(Trial::test(
        "a_record_cut_in_the_middle_is_not_read_and_is_cut_off",
        || {
            torn_record();
            Ok(())
        },
    ));
    trials
}

fn traced(operation: &str, path: &Path, inject: Option<(&Call, Fault)>) -> (Output, String) {
    let Some((Call { name, ordinal }, fault)) = inject else {
        return scene::trace(operation, path, INPUT, &[]);
    };
    let fault = match fault {
        Fault::Kill => "signal=KILL".to_owned(),
        Fault::Error(error) => format!("error={error}"),
    };
    let inject = format!("inject={name}:{fault}:when={ordinal}");
    scene::trace(operation, path, INPUT, &["-e", &inject])
}

/// Returns the calls between the two marks that the helper makes in its trace.
fn calls(trace: &str) -> Vec<Call> {
    let mut counts = std::collections::HashMap::new();
    let mut calls = Vec::new();
    let mut marks = 0;
    for line in trace.lines() {
        let rest = line
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start();
        let Some((name, _)) = rest.split_once('(') else {
            continue;
        };
        let ordinal = counts.entry(name.to_owned()).or_insert(0);
        *ordinal += 1;
        match name {
            "getppid" => marks += 1,
            _ if marks == 1 => calls.push(Call {
                name: name.to_owned(),
                ordinal: *ordinal,
            }),
            _ => {}
        }
    }
    assert_eq!(marks, 2, "the trace has both marks: {trace}");
    calls
}

fn every_call(operation: &str, before: Before) {
    let Scene { path, old, dir } = scene(before);
    let (output, trace) = traced(operation, &path, None);
    assert!(output.status.success(), "{output:?}");
    let new = read(&path).ok();
    drop(dir);
    let all = calls(&trace);
    let syncs = all.iter().filter(|call| call.name.contains("sync")).count();
    assert!(syncs >= 1 && all.len() >= 10, "{all:?}");

    let mut killed = 0;
    for call in &all {
        for fault in [
            Fault::Kill,
            Fault::Error("EIO"),
            Fault::Error("ENOSPC"),
            Fault::Error("EINTR"),
        ] {
            // A call that is made to fail is not done, but a real one closes whatever it answers.
            if call.name == "close" && !matches!(fault, Fault::Kill) {
                continue;
            }
            let Scene {
                path,
                old: same,
                dir: _dir,
            } = scene(before);
            assert_eq!(same, old);
            let (output, _) = traced(operation, &path, Some((call, fault)));
            killed += usize::from(output.status.signal() == Some(9));
            let seen = format!("{operation} on {before:?}, {fault:?} at {call:?}: {output:?}");
            let expected = Expected {
                operation,
                old,
                new: new.as_deref(),
                is_done: output.status.success(),
                is_plain: before != Before::Torn,
            };
            judge(&path, expected).unwrap_or_else(|error| panic!("{seen}: {error}"));
        }
    }
    assert_eq!(killed, all.len(), "every kill hit");
}

fn torn_record() {
    let Scene {
        path, dir: _dir, ..
    } = scene(Before::Torn);
    assert_eq!(read(&path).expect("readable"), OLD);
    // A check in between does not forget it.
    Fence::new(&path).admit(&token(6)).expect("admitted");
    assert_eq!(read(&path).expect("readable"), OLD);
    FencedFile::new(&path, token(7))
        .append(INPUT)
        .expect("admitted");
    assert_eq!(fs::read(&path).expect("readable"), [OLD, INPUT].concat());

    // What others made of the file meanwhile is not ours to cut.
    let Scene {
        path, dir: _dir, ..
    } = scene(Before::Torn);
    let theirs = "y".repeat(3000);
    fs::remove_file(&path).expect("removable");
    fs::write(&path, &theirs).expect("writable");
    FencedFile::new(&path, token(7))
        .append(INPUT)
        .expect("admitted");
    let whole = fs::read_to_string(&path).expect("readable");
    assert!(whole == theirs + "new\n", "{} bytes are left", whole.len());
}
