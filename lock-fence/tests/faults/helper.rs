//! The process that makes one change: this program under a hidden first argument.

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode};

use lock_core::{LockName, Token};
use lock_fence::{Error, Fence, FencedFile, FencingToken};

const ARGUMENT: &str = "--change";

/// The operations, as the arguments of the helper name them.
pub const OPERATIONS: [&str; 4] = ["replace", "append", "edit", "admit"];

pub fn token(number: u64) -> FencingToken {
    FencingToken::new(LockName::new("ledger").expect("valid"), Token(number))
}

/// Returns the command of this operation with this token. It writes its standard input.
pub fn arguments(operation: &str, path: &Path, token: u64) -> Vec<String> {
    let program = std::env::current_exe().expect("this program");
    let path = path.to_str().expect("text");
    [
        program.to_str().expect("text"),
        ARGUMENT,
        operation,
        path,
        &token.to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

pub fn main() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, argument, operation, path, number] = &arguments[..] else {
        return None;
    };
    if argument != ARGUMENT {
        return None;
    }
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).expect("a pipe");
    let token = token(number.parse().expect("a number"));
    // These two calls show in the trace where the operation begins and where it ends.
    let _ = std::os::unix::process::parent_id();
    let outcome = change(operation, Path::new(path), token, &input);
    let _ = std::os::unix::process::parent_id();
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:?}: {error}", error.kind());
            ExitCode::FAILURE
        }
    })
}

/// Does the same in this process.
pub fn change(
    operation: &str,
    path: &Path,
    token: FencingToken,
    input: &[u8],
) -> Result<(), Error> {
    let file = FencedFile::new(path, token.clone());
    match operation {
        "replace" => file.replace(input),
        "append" => file.append(input),
        "edit" => file.edit(|old| Ok::<_, Error>([old, input].concat())),
        "admit" => Fence::new(path).admit(&token),
        "read" => lock_fence::read(path).map(drop),
        other => panic!("{other} is not an operation"),
    }
}

/// Returns the command of a Debian program. A missing program fails the test.
pub fn program(name: &str, package: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    assert!(found, "{name} is not installed: apt-get install {package}");
    Command::new(name)
}
