//! The check where the damage would be done.
//!
//! A lock can be lost while its holder is paused: a virtual machine is moved, a disk hangs, a laptop
//! sleeps. When the holder wakes it does not know yet, and its write lands on top of the next
//! holder's. No lock can prevent that, because the pause may come after the last question it was
//! asked. The resource can: it refuses a token lower than one it has seen. This crate is that check.
//!
//! ```
//! # futures_executor::block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("ledger.json");
//! # let backend = backend_embedded::EmbeddedBackend::new(
//! #     backend_embedded::Coordinator::in_memory(backend_embedded::Limits::default())?);
//! # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
//! use lock_fence::FileLocks;
//!
//! // `locks` is what `turnlock::connect` answers.
//! let ledger = locks.file(&path)?;
//! let guard = ledger.acquire().await?;
//! guard.replace("[]").await?;
//! guard.edit(|old| Ok::<_, std::io::Error>([b"[1, ", &old[1..]].concat())).await?;
//! guard.release().await;
//! assert_eq!(lock_fence::read(&path)?, b"[1, ]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # What checks what
//!
//! | The resource | The check |
//! |---|---|
//! | a file | [`FileLocks::file`] in async code, [`FencedFile`] in any other, `turnlock write`, `append` and `edit` in a shell |
//! | anything on one machine, or in a folder that several share | [`Fence`], `turnlock fence check` |
//! | anything in one process | [`Register`] |
//! | tables of SQLite or PostgreSQL | the statement in [`sql`] |
//! | an HTTP service | the middleware in `http`, with the Cargo feature `tower` |
//!
//! The token travels as a [`FencingToken`], whose text fits into a header or a column.
//!
//! # What is promised of a file
//!
//! The highest token seen, the *mark*, is the file `.NAME.fence` beside the file `NAME`. A change locks the
//! mark (`flock`), compares, makes the mark durable, makes the change, and unlocks. So:
//!
//! - A change with a token lower than one that was admitted changes not one byte. The same token is
//!   admitted again: it is the same holder.
//! - Changes are in the order of their tokens, and `Ok` means durable (`fsync`, of the folder too).
//! - After a `kill -9` or a power cut at any moment the file is as before or as after. The mark never
//!   falls.
//! - Readers see no half-written file after [`replace`](FencedFile::replace) and
//!   [`edit`](FencedFile::edit), which put a new file in the old one's place. An
//!   [`append`](FencedFile::append) writes in place, so a reader that does not use [`read`] can see
//!   the beginning of the last record while it is written, and after a crash until the next change.
//! - A damaged mark refuses everything ([`ErrorKind::Untrusted`]). A mark that was removed is a fence
//!   that was taken down: nothing can tell that it was there.
//! - A program that writes to the file without this check is not stopped. If it does so during an
//!   edit, the edit is refused ([`ErrorKind::Changed`]).
//!
//! | What | What happens |
//! |---|---|
//! | a symbolic link | is followed: the file it names changes, and has the mark beside it |
//! | a symbolic link to nothing | refused |
//! | several hard links | refused: a write through another name would find another mark |
//! | a folder, device, pipe or socket | refused |
//! | permissions, owner, group | stay; if the system does not let us give the new file to the old one's owner, refused |
//! | `user.` attributes, access control lists | stay; security labels are the system's to set |
//! | a file we may not write | refused, also where its folder would let us replace it |
//! | a full disk, a quota | an error; the file is unchanged, the mark is or has risen to the token that was tried |
//! | a read-only file system | an error, nothing changed |
//! | a missing folder | an error; it is not made |
//! | a missing file | is made; an edit reads it as empty |
//! | a process that is stopped in the middle of a change | is waited for, [`BUSY_LIMIT`] long, then [`ErrorKind::Busy`]; one that is killed is not |
//! | another lock's token | refused: the mark knows the lock it was made for |
//!
//! # Where it holds
//!
//! - *Local file systems* (ext4, XFS, btrfs, tmpfs): as above; tested on ext4 and tmpfs. The mark relies on a
//!   disk's writing 512 bytes whole or not at all; a checksum tells if one does not.
//! - *NFS*: `flock` is taken on the server, so it holds between machines, with NFS 4, or NFS 3 and a
//!   lock service; taking it makes a client read the mark anew. Not with the mount options `nolock` and
//!   `local_lock=flock` or `all`, which keep the lock on one machine. When the server does not hear from
//!   a client for the lease time it gives the client's locks away, and a write that was already
//!   on its way can then land late: the window is that of one write, not of a whole hold.
//! - *SMB*: `flock` is taken on the server unless the mount has `nobrl`. The mark cannot be read by others
//!   while it is locked. Replacing a file that somebody has open can be refused by the server: an error,
//!   with nothing changed. Owner and mode are what the mount options say.
//! - *Overlay and FUSE*: as the layer below, if it passes `flock` on.
//!
//! Not tested on NFS, SMB and FUSE.

mod append;
mod error;
mod fence;
mod file;
#[cfg(feature = "tower")]
pub mod http;
mod locks;
mod mark;
mod place;
mod register;
mod replace;
pub mod sql;
mod token;

pub use error::{Error, ErrorKind};
pub use fence::{Admitted, BUSY_LIMIT, Fence};
pub use file::{Edit, FencedFile, read};
pub use locks::{FileGuard, FileLock, FileLocks, PathNames};
pub use register::{Entered, MAX_LOCKS, Register};
pub use token::{FencingToken, MAX_COORDINATOR_BYTES};
