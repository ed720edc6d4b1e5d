//! Makes a copy of the tree, to be changed and built.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::exhibit::Exhibit;

/// The folder of the copy, from the root of the workspace.
const FOLDER: &str = "target/museum";
/// The folder in the copy to which builds write.
const BUILDS: &str = "target";

pub struct Copy {
    folder: PathBuf,
}

impl Copy {
    /// Makes the copy equal to the tree as it is now, with uncommitted changes. Files that are
    /// equal already are not touched, so they are not built again.
    pub fn of(root: &Path) -> Result<Copy, String> {
        let folder = root.join(FOLDER);
        let files = list_files(root)?;
        make_alike(root, &folder, &files).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Copy { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a bug into the copy.
    pub fn apply(&self, exhibit: &Exhibit) -> Result<(), String> {
        git_apply(&self.folder, exhibit, &[])
    }

    /// Removes the bug from the copy.
    pub fn revert(&self, exhibit: &Exhibit) -> Result<(), String> {
        git_apply(&self.folder, exhibit, &["--reverse"])
    }
}

/// Returns whether an exhibit could be applied to this tree.
#[cfg(test)]
pub fn check(tree: &Path, exhibit: &Exhibit) -> Result<(), String> {
    git_apply(tree, exhibit, &["--check"])
}

fn git_apply(tree: &Path, exhibit: &Exhibit, options: &[&str]) -> Result<(), String> {
    let mut git = git(tree);
    // Inside of a repository, the paths of a patch would be those of the repository.
    git.env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    let applied = run_git(git.arg("apply").args(options).arg(&exhibit.path));
    let outdated = |said| format!("{} does not apply any more: {said}", exhibit.name);
    applied.map(drop).map_err(outdated)
}

/// Lists the files of the tree: those in git, and new ones that git does not ignore.
fn list_files(root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut git = git(root);
    let output = run_git(git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let names = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    let names = names.split_terminator('\0').map(PathBuf::from);
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}

fn git(tree: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(tree).env_remove("GIT_DIR");
    git
}

fn run_git(command: &mut Command) -> Result<Output, String> {
    let output = command
        .output()
        .map_err(|error| format!("git does not run: apt-get install git: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn make_alike(root: &Path, folder: &Path, files: &BTreeSet<PathBuf>) -> io::Result<()> {
    for file in files {
        let (from, to) = (root.join(file), folder.join(file));
        let alike = fs::read(&to).is_ok_and(|old| fs::read(&from).is_ok_and(|new| old == new));
        if !alike {
            fs::create_dir_all(to.parent().unwrap_or(folder))?;
            fs::copy(&from, &to)?;
        }
    }
    fs::create_dir_all(folder.join(BUILDS))?;
    remove_others(folder, Path::new(""), files)
}

/// Removes files that the tree does not have (any more), but not the results of builds.
fn remove_others(folder: &Path, below: &Path, files: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            if !files.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        } else if name != Path::new(BUILDS) {
            remove_others(folder, &name, files)?;
        }
    }
    Ok(())
}
