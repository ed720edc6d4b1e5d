//! What can go wrong inside redb.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why an operation on the database failed.
#[derive(Debug)]
pub(super) enum Problem {
    /// An error of redb, or an error of the medium in the form of one.
    Redb(redb::Error),
    /// The content that was read is impossible.
    Damaged(String),
    /// The format version is not one that this program knows.
    Format(u64),
    /// redb panicked, which it may on a file that was tampered with.
    Panic(String),
}

macro_rules! from_redb {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Problem::Redb(error.into())
            }
        }
    )*};
}

from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError,
);

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Problem::Redb(redb::Error::Io(error))
    }
}

/// Runs an operation on the database, and turns a panic into a problem. The database must not be
/// used after a panic.
pub(super) fn catch_panics<T>(run: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(Problem::Panic(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked").to_string()
}
