//! The location of an open file: the paths at which others look for it.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The identity of a file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// An open file, and the paths at which others look for it. No other file gets its identity while
/// it is open.
#[derive(Debug)]
pub(super) struct FileLocation {
    file_id: FileId,
    paths: Vec<PathBuf>,
}

impl FileLocation {
    /// Returns the location of a file that was opened by its name in a folder. It has the folder's
    /// path as given, which may go through symbolic links, and the resolved path.
    pub(super) fn of(folder: &Path, name: &str, file: &File) -> io::Result<FileLocation> {
        let file_id = FileId::of(&file.metadata()?);
        let mut paths = vec![folder.join(name)];
        let real = folder.canonicalize()?.join(name);
        if !paths.contains(&real) {
            paths.push(real);
        }
        Ok(FileLocation { file_id, paths })
    }

    pub(super) fn file_id(&self) -> FileId {
        self.file_id
    }

    /// Returns the paths of the folder.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().filter_map(|path| path.parent())
    }

    /// Fails if one of the paths leads to another file, or to none.
    pub(super) fn check(&self) -> Result<(), Error> {
        for path in &self.paths {
            let is_same = match std::fs::metadata(path) {
                Ok(metadata) => FileId::of(&metadata) == self.file_id,
                Err(error) => !is_not_found(&error),
            };
            if !is_same {
                let path = path.parent().unwrap_or(path).to_path_buf();
                return Err(Error::Displaced { path });
            }
        }
        Ok(())
    }
}

/// Returns whether the path leads to no file. Any other failure, such as a disk that does not
/// answer, says nothing about where the file is.
fn is_not_found(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::StaleNetworkFileHandle
    )
}
