//! Reads the patches and their headers.

use std::path::{Path, PathBuf};

use crate::trial::Test;

/// The folder of the patches.
const FOLDER: &str = "testkit/museum";

/// A known bug, as a change of this code.
pub struct Exhibit {
    /// The name of the patch file, without `.patch`.
    pub name: String,
    pub path: PathBuf,
    pub bug: String,
    /// The source that describes the bug.
    pub source: String,
    /// The crate into which the bug is put.
    pub mutates: String,
    pub caught_by: Test,
    /// The reason why no run of the simulation shows the bug, if none does.
    pub unseen_because: Option<String>,
}

/// Returns all exhibits, by name.
pub fn all(root: &Path) -> Result<Vec<Exhibit>, String> {
    let folder = root.join(FOLDER);
    let at_folder = |error| format!("{}: {error}", folder.display());
    let mut exhibits = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(at_folder)? {
        let path = entry.map_err(at_folder)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            let exhibit = read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
            exhibits.push(exhibit);
        }
    }
    exhibits.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(exhibits)
}

fn read(path: &Path) -> Result<Exhibit, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let optional = |name: &str| {
        let value = text
            .lines()
            .take_while(|line| !line.starts_with("diff "))
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map(str::to_owned)
    };
    let head =
        |name: &str| optional(name).ok_or_else(|| format!("its head has no line \"{name}: ...\""));
    let name = path.file_stem().and_then(|name| name.to_str());
    Ok(Exhibit {
        name: name.ok_or("its name is not text")?.to_owned(),
        bug: head("Bug")?,
        source: head("Source")?,
        mutates: head("Mutates")?,
        caught_by: head("Caught by")?.parse()?,
        unseen_because: optional("No run shows it"),
        path: path.to_owned(),
    })
}
