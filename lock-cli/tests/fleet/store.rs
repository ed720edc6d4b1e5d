//! Implements the stores that the processes write to, each with its fence: a file, SQLite,
//! PostgreSQL.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use turnlock::fence::{FencedFile, FencingToken};

#[allow(missing_docs)]
#[path = "../../../lock-fence/examples/postgres.rs"]
mod postgres;
#[allow(missing_docs)]
#[path = "../../../lock-fence/examples/sqlite.rs"]
mod sqlite;

/// An entry: the token, the process's number and the number of the edit in that process.
pub type Entry = [u64; 3];

/// A list of entries. Only the holder of the latest token can add to it.
pub enum Store {
    File(PathBuf),
    Sqlite(rusqlite::Connection),
    Postgres(::postgres::Client),
}

impl Store {
    /// Opens the store at `KIND:ADDRESS`.
    pub fn open(url: &str) -> Result<Store, Box<dyn Error>> {
        Ok(match url.split_once(':').ok_or("no kind")? {
            ("file", path) => Store::File(path.into()),
            ("sqlite", path) => Store::Sqlite(sqlite::open(Path::new(path))?),
            ("postgres", address) => Store::Postgres(postgres::open(address)?),
            _ => return Err("not a kind of store".into()),
        })
    }

    /// Adds an entry, and returns `false` if the token is stale. `think` is called where a program
    /// would spend its time, and would be paused.
    pub fn add(
        &mut self,
        token: &FencingToken,
        entry: Entry,
        think: impl FnOnce(),
    ) -> Result<bool, Box<dyn Error>> {
        let outcome = match self {
            Store::File(path) => FencedFile::new(path.as_path(), token.clone())
                .edit(|old| {
                    think();
                    let mut entries = parse(old)?;
                    entries.push(entry);
                    serde_json::to_vec(&entries)
                })
                .map_err(Into::into),
            Store::Sqlite(database) => {
                think();
                sqlite::post(database, token, &serde_json::to_string(&entry)?)
            }
            Store::Postgres(database) => {
                think();
                postgres::post(database, token, &serde_json::to_string(&entry)?)
            }
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if is_stale(&*error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the entries as any other program reads them.
    pub fn entries(&mut self) -> Result<Vec<Entry>, Box<dyn Error>> {
        let rows = match self {
            Store::File(path) => return Ok(parse(&read(path)?)?),
            Store::Sqlite(database) => sqlite::entries(database)?,
            Store::Postgres(database) => postgres::entries(database)?,
        };
        rows.iter()
            .map(|row| Ok(serde_json::from_str(row)?))
            .collect()
    }

    /// Returns the number of entries.
    pub fn length(&mut self) -> Result<usize, Box<dyn Error>> {
        Ok(match self {
            // Each entry has a bracket. To parse all entries each time would take too long.
            Store::File(path) => {
                let content = read(path)?;
                let brackets = content.iter().filter(|byte| **byte == b'[').count();
                brackets.saturating_sub(1)
            }
            Store::Sqlite(_) | Store::Postgres(_) => self.entries()?.len(),
        })
    }
}

/// Returns whether the file or the database itself has refused the token.
fn is_stale(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<turnlock::fence::Error>() {
        Some(error) => error.is_stale(),
        None => {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            (error.to_string() + &source).contains("stale_token")
        }
    }
}

fn parse(content: &[u8]) -> serde_json::Result<Vec<Entry>> {
    match content {
        [] => Ok(Vec::new()),
        content => serde_json::from_slice(content),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}
