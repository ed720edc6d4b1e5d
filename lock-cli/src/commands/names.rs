//! Interprets NAME and PREFIX on the command line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use turnlock::LockName;
use turnlock::fence::PathNames;

use crate::exit::{Exit, Failure};

/// Returns the lock that a NAME means. A NAME that is written as a path means the lock of that
/// file; any other means the lock of this name. With `--raw` it means the queue at exactly this
/// prefix or path.
pub fn parse_name(text: impl AsRef<OsStr>, raw: bool) -> Result<LockName, Failure> {
    let text = text.as_ref();
    if !raw && is_path(text) {
        return to_file_lock(text);
    }
    let Some(plain) = text.to_str() else {
        let message = format!("the name {} is not UTF-8", text.to_string_lossy());
        return Err(Failure::new(Exit::Usage, message));
    };
    // `run -- -n nightly` would otherwise be the lock `-n`.
    if !raw && plain.starts_with('-') {
        let message = format!("the name {plain:?} looks like an option");
        return Err(Failure::new(Exit::Usage, message)
            .hint("options come before `--`, and no name begins with `-`"));
    }
    let name = if raw {
        LockName::raw(plain)
    } else {
        LockName::new(plain)
    };
    name.map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

/// Returns the beginning of lock names that a PREFIX means. A path that ends with a slash, or that
/// names a folder, means the files in that folder.
pub fn parse_prefix(text: &OsStr) -> Result<String, Failure> {
    if !is_path(text) {
        let plain = text.to_str().map(str::to_owned);
        let message = || format!("the prefix {} is not UTF-8", text.to_string_lossy());
        return plain.ok_or_else(|| Failure::new(Exit::Usage, message()));
    }
    let folder = text.as_bytes().ends_with(b"/") || Path::new(text).is_dir();
    // The root folder is the only one that has no name in another folder.
    if std::fs::canonicalize(text).is_ok_and(|real| real == Path::new("/")) {
        return Ok("file/".to_owned());
    }
    let name = to_file_lock(text)?;
    Ok(format!("{name}{}", if folder { "/" } else { "" }))
}

/// Returns whether the text is written as a path. No name of a lock begins like this, so no lock is
/// taken for a file.
fn is_path(text: &OsStr) -> bool {
    let text = text.as_bytes();
    text.starts_with(b"/")
        || text.starts_with(b"./")
        || text.starts_with(b"../")
        || text == b"."
        || text == b".."
}

fn to_file_lock(path: &OsStr) -> Result<LockName, Failure> {
    PathNames::default().lock_name(path).map_err(|error| {
        Failure::from(error)
            .hint("a NAME that begins with `/`, `./` or `../` is the path of a file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> String {
        parse_name(text, false).expect("a name").to_string()
    }

    #[test]
    fn a_path_is_the_lock_of_its_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let real = dir.path().canonicalize().expect("there");
        let shown = real.to_str().expect("text");
        assert_eq!(
            meaning(&format!("{shown}/x.lock")),
            format!("file{shown}/x.lock")
        );
        assert_eq!(meaning(shown), format!("file{shown}"));
        assert_eq!(
            meaning(&format!("{shown}/")),
            format!("file{shown}"),
            "a folder"
        );
        let here = std::env::current_dir().expect("a folder");
        let here = here.canonicalize().expect("there");
        assert_eq!(meaning("./a"), format!("file{}/a", here.display()));
        assert_eq!(meaning("a/b"), "a/b", "a name stays one");
        assert_eq!(
            parse_name("/jobs/x", true).expect("raw").to_string(),
            "/jobs/x"
        );
    }

    #[test]
    fn a_path_without_its_folder_is_refused() {
        let failure = parse_name("/nowhere/at/all", false).expect_err("no folder");
        assert_eq!(failure.exit, Exit::File);
        assert!(
            failure.message.contains("/nowhere/at"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn a_name_like_an_option_is_refused() {
        for text in ["-x", "-", "--nb"] {
            let failure = parse_name(text, false).expect_err("refused");
            assert_eq!(failure.exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn a_folder_is_the_beginning_of_the_names_of_its_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let shown = dir.path().canonicalize().expect("there");
        let shown = shown.to_str().expect("text");
        let begins = |text: &str| parse_prefix(OsStr::new(text)).expect("a prefix");
        assert_eq!(begins(shown), format!("file{shown}/"));
        assert_eq!(begins(&format!("{shown}/a")), format!("file{shown}/a"));
        assert_eq!(begins("/"), "file/");
        assert_eq!(begins("jobs/"), "jobs/");
        assert_eq!(begins(""), "");
    }
}
