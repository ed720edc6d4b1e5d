//! The mark of a fence, in a file beside what it protects. If the first byte of an input is odd, the sum
//! of the mark is put right: a fuzzer finds none.

#![no_main]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lock_fence::{Fence, FencedFile, FencingToken};
use tempfile::TempDir;
use turnlock_fuzz::{folder, memory};

/// The length of the first line, and of the sum in it.
const LINE: usize = 256;
const SUM: usize = " check=00000000".len();

const TOKEN: &str = "v1:exclusive:42::ledger";

/// A folder with a mark, and the path of what it protects.
struct Place {
    protected: PathBuf,
    mark: PathBuf,
    _folder: TempDir,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let folder = folder::make();
    let mark = folder.path().join(".ledger.fence");
    fs::write(&mark, "").expect("there is room");
    fs::set_permissions(&mark, PermissionsExt::from_mode(0o600)).expect("it is ours");
    Place {
        protected: folder.path().join("ledger"),
        mark,
        _folder: folder,
    }
});

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let place = &*PLACE;
    let mark = match choice % 2 {
        0 => bytes.to_vec(),
        _ => put_sum_right(bytes),
    };
    fs::write(&place.mark, mark).expect("there is room");
    fs::write(&place.protected, "what it protects").expect("there is room");
    memory::limit(input, 0, || {
        let fence = Fence::new(&place.protected);
        let before = fence.highest();
        let token: FencingToken = TOKEN.parse().expect("a token");
        let file = FencedFile::new(&place.protected, token.clone());
        let appended = file.append(b"more");
        match before {
            Err(_) => assert!(appended.is_err(), "a damaged mark refuses every token"),
            Ok(Some(before)) if before.lock == token.lock && before.token > token.token => {
                assert!(appended.is_err_and(|error| error.is_stale()), "{before}");
            }
            Ok(_) => {}
        }
        let read = lock_fence::read(&place.protected);
        read.map_or_else(|error| drop(error.to_string()), drop);
    });
});

/// Writes the sum of the first line and the name into the first line.
fn put_sum_right(bytes: &[u8]) -> Vec<u8> {
    let facts_end = bytes.iter().position(|byte| *byte == b'\n');
    let (facts, name) = bytes.split_at(facts_end.unwrap_or(bytes.len()));
    let facts = &facts[..facts.len().min(LINE - 1 - SUM)];
    let name = name.strip_prefix(b"\n").unwrap_or(name);
    let mut sum = crc32fast::Hasher::new();
    sum.update(facts);
    sum.update(name);
    let mut mark = facts.to_vec();
    mark.extend(format!(" check={:08x}", sum.finalize()).into_bytes());
    mark.resize(LINE - 1, b' ');
    mark.push(b'\n');
    mark.extend(name);
    mark
}

fn seeds() -> Vec<Vec<u8>> {
    let folder = folder::make();
    let path = folder.path().join("ledger");
    let tokens = [TOKEN, "v1:exclusive:43::ledger", "v1:exclusive:44::ledger"];
    let marks = tokens.map(|token| {
        let file = FencedFile::new(&path, token.parse().expect("a token"));
        file.append(b"record").expect("it is admitted");
        fs::read_to_string(folder.path().join(".ledger.fence")).expect("a mark")
    });
    let with_sum = |mark: &String| format!("0{mark}").into_bytes();
    let without = |mark: &String| {
        let (facts, _) = mark.split_once(" check=").expect("a sum");
        let name = &mark[LINE..];
        format!("1{facts}\n{name}").into_bytes()
    };
    marks
        .iter()
        .map(with_sum)
        .chain(marks.iter().map(without))
        .collect()
}
