//! Checks fencing tokens where the damage would be done.
//!
//! A holder can lose its lock while it is paused: a virtual machine is moved, a disk hangs, a
//! laptop sleeps. When the holder wakes, it does not know yet, and its write lands on top of the
//! next holder's. No lock can prevent that, because the pause may come after the holder's last
//! check. The resource can prevent it: it refuses every token lower than one that it has seen. This
//! crate is that check.
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
//! // `locks` is what `turnlock::connect` returns.
//! let ledger = locks.file(&path)?;
//! let guard = ledger.acquire().await?;
//! guard.replace("[]").await?;
//! guard.edit(|old| Ok::<_, std::io::Error>([b"[1, ", &old[1..]].concat())).await?;
//! assert_eq!(guard.release().await?, lock_core::Release::Released);
//! assert_eq!(lock_fence::read(&path)?, b"[1, ]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # What checks what
//!
//! | Resource | Check |
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
//! The *mark*, the highest token seen, is the file `.NAME.fence` beside the file `NAME`. A change
//! locks the mark (`flock`), compares the tokens, makes the mark durable, makes the change, and
//! unlocks. So:
//!
//! - A change with a token lower than an admitted one changes not one byte. The same token is
//!   admitted again, because it belongs to the same holder.
//! - Changes are in the order of their tokens, and `Ok` means durable (`fsync`, of the folder too).
//! - After a `kill -9` or a power cut at any moment the file has its old content or its new one.
//!   The mark never falls.
//! - Readers see no half-written file: [`replace`](FencedFile::replace) and
//!   [`edit`](FencedFile::edit) put a new file in the place of the old one. An
//!   [`append`](FencedFile::append) writes in place, so a reader that does not use [`read`] can see
//!   the beginning of the last record while it is written, and after a crash until the next change.
//! - A damaged mark refuses every token ([`ErrorKind::Untrusted`]). Removing the mark takes the
//!   fence down, and nobody can see afterwards that there was one.
//! - Only users who may write the file can open its mark: whoever can open it can lock it, and keep
//!   writers out. A mark of an earlier version, which had the permissions of the file, is exchanged
//!   for a closed one by its owner's next change. Earlier versions take the lock of the new one.
//! - No token above [`MAX_TOKEN`] is admitted, since it would keep every later holder out.
//! - The fence does not stop a program that writes to the file without this check. An edit is
//!   refused if such a program writes meanwhile ([`ErrorKind::Changed`]).
//!
//! | Case | Outcome |
//! |---|---|
//! | a symbolic link | is followed: the target changes, and the mark is beside the target |
//! | a symbolic link to a missing file | refused |
//! | another user's link or file in a folder with the mode 1777 (sticky, writable for everybody) | refused, unless that user owns the folder |
//! | several hard links | refused: a write through another name would find another mark |
//! | a folder, device, pipe or socket, also in the place of the mark | refused |
//! | another user's mark in a folder with the mode 1777 | refused, unless that user is the superuser or owns the folder or the file |
//! | permissions, owner, group | stay; if the system does not let us give the new file to the old one's owner, refused |
//! | `user.` attributes, access control lists | stay; security labels are the system's to set |
//! | a file without write permission | refused, even where the folder's permissions allow a replacement |
//! | a full disk, a quota | an error; the file is unchanged, the mark is or has risen to the token that was tried |
//! | a read-only file system | an error, nothing changed |
//! | a missing folder | an error; the folder is not created |
//! | a missing file | is created; an edit reads it as empty |
//! | a process that is stopped in the middle of a change | others wait for it up to [`BUSY_LIMIT`], then fail with [`ErrorKind::Busy`]; they do not wait for a killed one |
//! | another lock's token | refused: the mark has the name of its lock |
//!
//! # File systems
//!
//! - *Local file systems* (ext4, XFS, btrfs, tmpfs): as above; tested on ext4 and tmpfs. The mark
//!   relies on disks that write 512 bytes whole or not at all; a checksum detects a disk that does
//!   not.
//! - *NFS*: the server takes the `flock`, so it works between machines, with NFS 4, or NFS 3 and a
//!   lock service; a client that takes it reads the mark anew. Not with the mount options `nolock`
//!   and `local_lock=flock` or `all`, which keep the lock on one machine. A server that does not
//!   hear from a client for the lease time gives the client's locks away. A write that was already
//!   under way can then arrive late: the window is one write, not a whole hold.
//! - *SMB*: the server takes the `flock` unless the mount has `nobrl`. Others cannot read the mark
//!   while it is locked. The server can refuse to replace a file that is open elsewhere: an error,
//!   with nothing changed. The mount options determine owner and mode.
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
mod mark_file;
mod new_mark;
mod place;
mod register;
mod replace;
pub mod sql;
mod strangers;
mod token;
mod walk;

pub use error::{Error, ErrorKind};
pub use fence::{Admitted, BUSY_LIMIT, Fence};
pub use file::{Edit, FencedFile, read};
pub use locks::{FileGuard, FileLock, FileLocks, PathNames};
pub use register::{Entered, MAX_LOCKS, Register};
pub use token::{FencingToken, MAX_COORDINATOR_BYTES, MAX_TOKEN};
