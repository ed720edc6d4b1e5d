//! Files that only the holder of the latest token changes.

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
/// stale token changes not one byte. What was answered `Ok` is durable. After an error, or a crash,
/// the file is as it was or as it was to be, never in between. The crate's page says what happens
/// to links, permissions and full disks.
///
/// All calls block on the disk. [`FileGuard`](crate::FileGuard) is the same for async code.
#[derive(Debug, Clone)]
pub struct FencedFile {
    path: PathBuf,
    token: FencingToken,
}

impl FencedFile {
    /// This file, to be changed with this token: [`FencingToken::of`] a guard. Does no I/O.
    pub fn new(path: impl Into<PathBuf>, token: FencingToken) -> Self {
        FencedFile {
            path: path.into(),
            token,
        }
    }

    /// Gives the file this content, or makes it. Readers see the old content or the new one.
    ///
    /// # Errors
    /// As [`Fence::admit`](crate::Fence::admit); [`ErrorKind::Unsuitable`] if a fence cannot protect
    /// the file; what the file system said, with nothing changed.
    pub fn replace(&self, content: &[u8]) -> Result<(), Error> {
        let (place, section, old) = self.enter()?;
        replace::replace(&place, &section, old.as_ref(), content)
    }

    /// Puts a record at the end of the file, or makes the file. The record is there whole or not at
    /// all for [`read`] and for every later change; another program that reads the file meanwhile, or
    /// after a crash and before the next change, can see the beginning of one.
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

    /// Reads the file (an absent one is empty), has `change` make the new content of it, and
    /// replaces it. No other token's change comes in between: from the reading on, lower ones are
    /// refused, and if a higher one comes, this is refused.
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

    /// The first half of an [`edit`](FencedFile::edit), for a change that takes its time.
    ///
    /// # Errors
    /// As [`replace`](FencedFile::replace).
    pub fn begin_edit(&self) -> Result<Edit, Error> {
        let (place, section, old) = self.enter()?;
        // Before the reading: a lower token that came after it would be lost under our change.
        section.raise(None)?;
        let (read, content) = match old {
            None => (None, Vec::new()),
            Some(file) => {
                let version = Version::of(&place.stat(&file)?);
                let content = content(&place, &file, u64::MAX)?;
                (Some((file, version)), content)
            }
        };
        Ok(Edit {
            file: self.clone(),
            read,
            content,
        })
    }

    /// Checks the token and the file, and ends an append that a crash left unfinished.
    fn enter(&self) -> Result<(Place, Section, Option<File>), Error> {
        let place = Place::of(&self.path)?;
        // Before a mark is made for it.
        place.open_to_write()?;
        let section = Section::open(&place, &self.token)?;
        let file = place.open_to_write()?;
        if let Some(file) = &file {
            append::repair(&place, file, section.unfinished())?;
        }
        Ok((place, section, file))
    }
}

/// A file that was read to be changed.
#[derive(Debug)]
pub struct Edit {
    file: FencedFile,
    read: Option<(File, Version)>,
    content: Vec<u8>,
}

impl Edit {
    /// What was read; empty if there was no file.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Replaces what was read.
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
                "{} was changed while it was being edited, under the same token or without a fence: read it again",
                place.path().display()
            );
            return Err(Error::new(ErrorKind::Changed, message));
        }
        replace::replace(&place, &section, now.as_ref(), content)
    }
}

/// The content of a fenced file, without what an append under way, or one cut short by a crash, has
/// written of its record. Needs no token; waits for a change that is being made.
///
/// # Errors
/// What the file system said; [`ErrorKind::Untrusted`] if the mark is damaged;
/// [`ErrorKind::Busy`] as for a write.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    let place = Place::of(path.as_ref())?;
    let reading = fence::read(&place)?;
    let Some(file) = place.open(OFlags::RDONLY)? else {
        return Err(Error::io("open", place.path(), io::ErrorKind::NotFound));
    };
    let unfinished = reading.as_ref().and_then(|reading| reading.mark.pending);
    let length = append::sound_length(&place, &file, unfinished)?;
    content(&place, &file, length)
}

/// At most `limit` bytes from its start.
fn content(place: &Place, file: &File, limit: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let mut content = Vec::new();
    file.take(limit)
        .read_to_end(&mut content)
        .map_err(|error| Error::io("read", place.path(), error))?;
    Ok(content)
}
