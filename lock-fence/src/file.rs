//! Changes files under the check of a fencing token.

use std::error::Error as StdError;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::append;
use crate::error::{Error, ErrorKind};
use crate::fence::{self, Section};
use crate::place::Place;
use crate::replace::{self, Version};
use crate::token::FencingToken;

/// A file and the token to change it with.
///
/// Each change checks the token and raises the mark under one lock of the operating system, so a
/// stale token changes not one byte. A change that returned `Ok` is durable. After an error or a
/// crash the file has its old content or its new one, never a mixture. The crate's page says what
/// happens to links, permissions and full disks.
///
/// All calls block on the disk. [`FileGuard`](crate::FileGuard) is the same for async code.
#[derive(Debug, Clone)]
pub struct FencedFile {
    path: PathBuf,
    token: FencingToken,
}

impl FencedFile {
    /// Returns a handle that changes this file with this token, which [`FencingToken::of`] takes
    /// from a guard. Does no I/O.
    ///
    /// ```
    /// use lock_fence::{FencedFile, FencingToken};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("ledger");
    /// let token: FencingToken = "v1:exclusive:42::ledger".parse()?;
    /// let file = FencedFile::new(&path, token);
    /// file.replace(b"a")?;
    /// file.append(b"b")?;
    /// assert_eq!(lock_fence::read(&path)?, b"ab");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(path: impl Into<PathBuf>, token: FencingToken) -> Self {
        FencedFile {
            path: path.into(),
            token,
        }
    }

    /// Replaces the content of the file, or creates the file. Readers see the old content or the
    /// new one.
    ///
    /// # Errors
    /// As [`Fence::admit`](crate::Fence::admit); [`ErrorKind::Unsuitable`] if a fence cannot
    /// protect the file; what the file system said, with nothing changed.
    pub fn replace(&self, content: &[u8]) -> Result<(), Error> {
        let (place, section, old) = self.enter()?;
        replace::replace(&place, &section, old.as_ref(), content)
    }

    /// Appends a record to the file, or creates the file. [`read`] and every later change find the
    /// record whole or not at all. Another program that reads the file during the append, or after
    /// a crash and before the next change, can see the beginning of the record.
    ///
    /// # Errors
    /// As [`replace`](FencedFile::replace).
    pub fn append(&self, record: &[u8]) -> Result<(), Error> {
        let (place, section, old) = self.enter()?;
        match old {
            Some(file) => append::append(&place, &section, &file, record),
            None => replace::replace(&place, &section, None, record),
        }
    }

    /// Reads the file (an absent one is empty), passes its content to `change`, and replaces it
    /// with the result. No change under another token comes in between: after the reading, lower
    /// tokens are refused, and this edit is refused if a higher token was admitted.
    ///
    /// # Errors
    /// As [`replace`](FencedFile::replace); [`ErrorKind::Edit`] with the error of `change` as its
    /// source; [`ErrorKind::Changed`] if the file was changed meanwhile under the same token, or
    /// without a fence.
    pub fn edit<E>(&self, change: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<(), Error>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let edit = self.begin_edit()?;
        let content = change(edit.content()).map_err(|error| {
            let message = format!(
                "the edit of {} failed: nothing was changed",
                self.path.display()
            );
            Error::new(ErrorKind::Edit, message).because(error)
        })?;
        edit.commit(&content)
    }

    /// Does the first half of an [`edit`](FencedFile::edit), for a change that takes time.
    ///
    /// # Errors
    /// As [`replace`](FencedFile::replace).
    pub fn begin_edit(&self) -> Result<Edit, Error> {
        let (place, section, old) = self.enter()?;
        // Before the reading: our change would overwrite that of a lower token admitted after it.
        section.raise(None)?;
        let (read, content) = match old {
            None => (None, Vec::new()),
            Some(file) => {
                let version = Version::of(&place.stat(&file)?);
                let content = read_content(&place, &file, u64::MAX)?;
                (Some((file, version)), content)
            }
        };
        Ok(Edit {
            file: self.clone(),
            read,
            content,
        })
    }

    /// Checks the token and the file, and repairs an append that a crash left unfinished.
    fn enter(&self) -> Result<(Place, Section, Option<File>), Error> {
        let place = Place::of(&self.path)?;
        // Before the section creates a mark for a file that no fence can protect.
        place.open_to_write()?;
        let section = Section::open(&place, &self.token)?;
        let file = place.open_to_write()?;
        if let Some(file) = &file {
            append::repair(&place, file, section.pending_append())?;
        }
        Ok((place, section, file))
    }
}

/// An edit between its two halves: the file was read and is not changed yet.
#[derive(Debug)]
pub struct Edit {
    file: FencedFile,
    read: Option<(File, Version)>,
    content: Vec<u8>,
}

impl Edit {
    /// Returns the content that was read; empty if there was no file.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Replaces the content that was read by this one.
    ///
    /// # Errors
    /// As [`FencedFile::edit`].
    pub fn commit(self, content: &[u8]) -> Result<(), Error> {
        let (place, section, now) = self.file.enter()?;
        let found = match &now {
            Some(file) => Some(Version::of(&place.stat(file)?)),
            None => None,
        };
        if found.as_ref() != self.read.as_ref().map(|(_, version)| version) {
            let message = format!(
                "{} was changed while it was being edited, under the same token or without a \
                 fence: read it again",
                place.path().display()
            );
            return Err(Error::new(ErrorKind::Changed, message));
        }
        replace::replace(&place, &section, now.as_ref(), content)
    }
}

/// Returns the content of a fenced file without a record that is only partly written, by an append
/// under way or by one that a crash cut short. Needs no token. Waits for a change under way, so only
/// users who may write the file can read it like this.
///
/// # Errors
/// [`ErrorKind::Io`] as the file system reports it, and for a user who may only read the file;
/// [`ErrorKind::Untrusted`] if the mark is damaged or a stranger's; [`ErrorKind::Busy`] as for a
/// write.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    let place = Place::of(path.as_ref())?;
    let reading = fence::read(&place)?;
    let Some(file) = place.open(OFlags::RDONLY)? else {
        return Err(Error::io("open", place.path(), io::ErrorKind::NotFound));
    };
    let unfinished = reading.as_ref().and_then(|reading| reading.mark.pending);
    let length = append::sound_length(&place, &file, unfinished)?;
    read_content(&place, &file, length)
}

/// Reads at most `limit` bytes from the start of the file.
fn read_content(place: &Place, file: &File, limit: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let mut content = Vec::new();
    file.take(limit)
        .read_to_end(&mut content)
        .map_err(|error| Error::io("read", place.path(), error))?;
    Ok(content)
}
