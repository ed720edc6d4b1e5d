//! Appends records to a file, each whole or not at all.
//!
//! A record is written in place, and a process may die in the middle of the write. So the mark
//! first describes the record: its place, its length and its checksum. The next process finds the
//! record whole and keeps it, or finds a part of it and cuts that part off.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::UNIX_EPOCH;

use crate::error::Error;
use crate::fence::Section;
use crate::mark::Pending;
use crate::place::Place;

/// Bytes read at once for a checksum.
const CHUNK_BYTES: usize = 1 << 16;

/// Appends a record to an existing file, within a section.
pub(crate) fn append(
    place: &Place,
    section: &Section,
    file: &File,
    record: &[u8],
) -> Result<(), Error> {
    let found = examine(place, file)?;
    let at = found.len();
    let pending = (!record.is_empty()).then_some(Pending {
        inode: found.ino(),
        born: born(&found),
        at,
        bytes: record.len() as u64,
        checksum: crc32fast::hash(record),
    });
    section.raise(pending)?;
    let written = file
        .write_all_at(record, at)
        .and_then(|()| file.sync_data())
        .map_err(|error| Error::io("append to", place.path(), error));
    if written.is_err() {
        // If this fails as well, the next append repairs the file.
        let _ = file.set_len(at);
        return written;
    }
    section.finish_append()
}

/// Returns the length of the file without an append that did not get to its end.
pub(crate) fn sound_length(
    place: &Place,
    file: &File,
    unfinished: Option<Pending>,
) -> Result<u64, Error> {
    let found = examine(place, file)?;
    let size = found.len();
    let same = |pending: &Pending| (pending.inode, pending.born) == (found.ino(), born(&found));
    let Some(pending) = unfinished.filter(same) else {
        return Ok(size);
    };
    let end = pending.at.saturating_add(pending.bytes);
    // Shorter or longer than the append can have left it: another program wrote without the fence.
    if size <= pending.at || size > end {
        return Ok(size);
    }
    if size == end {
        let found =
            checksum(file, pending.at).map_err(|error| Error::io("read", place.path(), error))?;
        if found == pending.checksum {
            return Ok(size);
        }
    }
    Ok(pending.at)
}

/// Cuts off the part of an append that did not get to its end, or makes the record durable if it is
/// whole. After this the mark's description of the append is no longer needed. The append was never
/// acknowledged, so both outcomes are right.
pub(crate) fn repair(place: &Place, file: &File, unfinished: Option<Pending>) -> Result<(), Error> {
    if unfinished.is_none() {
        return Ok(());
    }
    let sound = sound_length(place, file, unfinished)?;
    let mended = match sound < examine(place, file)?.len() {
        true => file.set_len(sound),
        false => Ok(()),
    };
    mended
        .and_then(|()| file.sync_all())
        .map_err(|error| Error::io("end the last append to", place.path(), error))
}

fn examine(place: &Place, file: &File) -> Result<Metadata, Error> {
    file.metadata()
        .map_err(|error| Error::io("examine", place.path(), error))
}

fn born(found: &Metadata) -> u64 {
    let since = found
        .created()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

fn checksum(file: &File, mut at: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read_at(&mut chunk, at) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(read) => {
                hasher.update(&chunk[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
