//! Reads the history of ZooKeeper from its logs of transactions. They record the creator of every
//! node, the time, and the transaction that deleted it.
//!
//! The format is that of `FileTxnLog`: a header of 16 bytes; then, for each transaction, an
//! Adler-32 checksum, a length, a `TxnHeader` with the transaction in Jute, and the letter B. The
//! rest of a file is zeros.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lock_core::clock::{self, BootInstant, Clock};
use lock_core::{Metadata, Mode, SessionId, Token, name};

use super::Account;
use crate::history::{Cause, Deletion, Entry};

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const MULTI: i32 = 14;
const CREATE2: i32 = 15;
const CLOSE_SESSION: i32 = -11;

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Transaction {
    session: SessionId,
    zxid: u64,
    unix_ms: u64,
    changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Create {
        path: String,
        data: Vec<u8>,
        ephemeral: bool,
    },
    Delete {
        path: String,
    },
    CloseSession,
}

/// Reads the history from the logs in these folders, one for each member. A member that was behind
/// may have got a snapshot in place of some transactions. A member that led and was cut off may
/// have written some at the end of its reign that were never committed. So a transaction in the
/// logs of a quorum is certain, and so are the earlier ones of the same reign. The rest may have
/// happened or not.
///
/// # Errors
/// If a log cannot be read or has an unexpected format.
pub fn account(folders: impl Iterator<Item = PathBuf>) -> io::Result<Account> {
    let mut transactions = BTreeMap::new();
    let mut written: BTreeMap<u64, usize> = BTreeMap::new();
    let mut members = 0;
    for folder in folders {
        members += 1;
        let mut zxids = BTreeSet::new();
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("log.") {
                for one in read(&path)? {
                    zxids.insert(one.zxid);
                    transactions.insert(one.zxid, one);
                }
            }
        }
        for zxid in zxids {
            *written.entry(zxid).or_default() += 1;
        }
    }
    // The last certain transaction of each reign.
    let certain = written.iter().filter(|(_, logs)| **logs > members / 2);
    let certain: BTreeMap<u64, u64> = certain.map(|(zxid, _)| (reign(*zxid), *zxid)).collect();
    let mut account = Account::default();
    let mut living: HashMap<String, Entry> = HashMap::new();
    // The wall clock is not set during a run.
    let epoch = clock::unix_millis() - u64::try_from(now_ms()).expect("not so long after boot");
    for (zxid, transaction) in transactions {
        let since_boot = transaction.unix_ms.saturating_sub(epoch);
        let decided = BootInstant::from_nanos(0) + Duration::from_millis(since_boot);
        let happened = certain.get(&reign(zxid)).is_some_and(|last| zxid <= *last);
        if !happened {
            account.gaps.push((zxid, zxid));
        }
        let deletion = |entry: &Entry, cause| match entry.deleted {
            // The deletion may have happened before.
            Some(earlier) => Deletion {
                to: zxid,
                ..earlier
            },
            None if happened => Deletion {
                from: zxid,
                to: zxid,
                cause,
                decided: Some(decided),
            },
            None => Deletion {
                from: zxid,
                to: u64::MAX,
                cause: Cause::Unknown,
                decided: None,
            },
        };
        for change in transaction.changes {
            match change {
                Change::Create {
                    path,
                    data,
                    ephemeral: true,
                } if happened => {
                    if let Some(entry) = entry(&path, &data, transaction.session, zxid) {
                        living.insert(path, entry);
                    }
                }
                Change::Create { .. } => {}
                Change::Delete { path } => {
                    let request = Cause::Request(transaction.session);
                    if let Some(entry) = living.get_mut(&path) {
                        entry.deleted = Some(deletion(entry, request));
                    }
                    if happened {
                        account.entries.extend(living.remove(&path));
                    }
                }
                Change::CloseSession => {
                    let own = living.values_mut();
                    for entry in own.filter(|entry| entry.session == transaction.session) {
                        entry.deleted = Some(deletion(entry, Cause::SessionEnd));
                    }
                    let over = |_: &String, entry: &mut Entry| {
                        happened && entry.session == transaction.session
                    };
                    account
                        .entries
                        .extend(living.extract_if(over).map(|(_, entry)| entry));
                }
            }
        }
    }
    account.entries.extend(living.into_values());
    account.entries.sort_by_key(|entry| entry.created);
    Ok(account)
}

/// Returns the reign of the leader that made a transaction.
fn reign(zxid: u64) -> u64 {
    zxid >> 32
}

fn now_ms() -> u128 {
    let since_boot = Clock::system()
        .now()
        .saturating_since(BootInstant::from_nanos(0));
    since_boot.as_millis()
}

/// Returns the entry of an ephemeral node, or `None` if the node is a session's own.
fn entry(path: &str, data: &[u8], session: SessionId, zxid: u64) -> Option<Entry> {
    let (directory, node) = path.rsplit_once('/')?;
    let (_, encoded) = directory.rsplit_once('/')?;
    let lock = name::decode(encoded)?;
    let shared = node.contains("__READ__");
    let note = Metadata::from_bytes(data).and_then(|metadata| metadata.note);
    Some(Entry {
        key: path.to_owned(),
        lock: lock.as_str().to_owned(),
        mode: if shared {
            Mode::Shared
        } else {
            Mode::Exclusive
        },
        session,
        op: note.and_then(|note| note.parse().ok()),
        created: zxid,
        // The contenders of a run on ZooKeeper raise no token offset.
        token: Token(zxid),
        deleted: None,
    })
}

fn read(path: &Path) -> io::Result<Vec<Transaction>> {
    let bytes = fs::read(path)?;
    let mut jute = Jute(&bytes);
    let mut transactions = vec![];
    // A file that was just begun is empty.
    if bytes.is_empty() {
        return Ok(transactions);
    }
    if jute.take(4)? != b"ZKLG" {
        return Err(io::Error::other(format!(
            "{} is no log of transactions",
            path.display()
        )));
    }
    jute.take(12)?;
    while let Some((checksum, record)) = next(&mut jute) {
        if checksum != i64::from(adler32(record)) {
            return Err(io::Error::other(format!(
                "{} is damaged after {} transactions",
                path.display(),
                transactions.len()
            )));
        }
        transactions.push(transaction(record)?);
    }
    Ok(transactions)
}

/// Returns the next record, or none at the end of the file. The file also ends if the server was
/// killed in the middle of a record: later records are in the next file.
fn next<'a>(jute: &mut Jute<'a>) -> Option<(i64, &'a [u8])> {
    let checksum = jute.long().ok()?;
    let record = jute.buffer().ok()?;
    let whole = !record.is_empty() && jute.take(1).ok()? == b"B";
    whole.then_some((checksum, record))
}

fn transaction(record: &[u8]) -> io::Result<Transaction> {
    let mut jute = Jute(record);
    let session = SessionId(jute.long()?);
    jute.int()?; // The number of the client's request.
    let zxid = jute.long()?.cast_unsigned();
    let unix_ms = jute.long()?.cast_unsigned();
    let kind = jute.int()?;
    let mut changes = vec![];
    if kind == MULTI {
        for _ in 0..jute.int()? {
            let kind = jute.int()?;
            changes.extend(change(kind, Jute(jute.buffer()?))?);
        }
    } else {
        changes.extend(change(kind, jute)?);
    }
    Ok(Transaction {
        session,
        zxid,
        unix_ms,
        changes,
    })
}

fn change(kind: i32, mut jute: Jute) -> io::Result<Option<Change>> {
    Ok(match kind {
        CREATE | CREATE2 => {
            let path = jute.string()?;
            let data = jute.buffer()?.to_vec();
            for _ in 0..jute.int()? {
                jute.int()?; // Permissions,
                jute.buffer()?; // a scheme,
                jute.buffer()?; // an id.
            }
            let ephemeral = jute.take(1)? != [0];
            Some(Change::Create {
                path,
                data,
                ephemeral,
            })
        }
        DELETE => Some(Change::Delete {
            path: jute.string()?,
        }),
        CLOSE_SESSION => Some(Change::CloseSession),
        _ => None,
    })
}

/// A reader of ZooKeeper's serialisation.
struct Jute<'a>(&'a [u8]);

impl<'a> Jute<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "a log of transactions is cut");
        let (taken, rest) = self.0.split_at_checked(count).ok_or(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> io::Result<i32> {
        let bytes = self.take(4)?.try_into().expect("four bytes");
        Ok(i32::from_be_bytes(bytes))
    }

    fn long(&mut self) -> io::Result<i64> {
        let bytes = self.take(8)?.try_into().expect("eight bytes");
        Ok(i64::from_be_bytes(bytes))
    }

    /// Reads a buffer. The length of an empty one may be negative.
    fn buffer(&mut self) -> io::Result<&'a [u8]> {
        let length = self.int()?;
        self.take(usize::try_from(length).unwrap_or_default())
    }

    fn string(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(self.buffer()?).into_owned())
    }
}

fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % MODULUS;
        (a, (b + a) % MODULUS)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_adlers() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    /// Makes the record of a session that is closed.
    fn record(zxid: u64) -> Vec<u8> {
        let mut record = 5_i64.to_be_bytes().to_vec();
        record.extend(0_i32.to_be_bytes());
        record.extend(zxid.to_be_bytes());
        record.extend(7_i64.to_be_bytes());
        record.extend(CLOSE_SESSION.to_be_bytes());
        let length = i32::try_from(record.len()).expect("short");
        let checksum = i64::from(adler32(&record)).to_be_bytes();
        [&checksum[..], &length.to_be_bytes(), &record, b"B"].concat()
    }

    #[test]
    fn a_log_may_end_in_the_middle_of_a_record_and_damage_is_reported() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log.1");
        let header = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
        let whole = [header, record(1), record(2)].concat();
        let padded = [&whole[..], &[0; 64]].concat();
        let torn = &whole[..whole.len() - 3];
        let half = [torn, &[0; 64]].concat();
        for (bytes, count) in [
            (&whole[..], 2),
            (&padded, 2),
            (torn, 1),
            (&half, 1),
            (&[], 0),
        ] {
            fs::write(&path, bytes).expect("writable");
            let read = read(&path).expect("a log");
            assert_eq!(read.len(), count);
            let closed = read.iter().all(|one| one.changes == [Change::CloseSession]);
            assert!(closed);
        }
        let mut damaged = whole.clone();
        damaged[40] ^= 1;
        for bytes in [&damaged[..], b"snapshot"] {
            fs::write(&path, bytes).expect("writable");
            assert!(read(&path).is_err());
        }
    }
}
