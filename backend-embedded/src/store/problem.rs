//! What can go wrong inside redb.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why an operation on the database failed.
#[derive(Debug)]
pub(super) enum Problem {
    /// redb panic_text so, or the medium, as redb would say it.
    Redb(redb::Error),
    /// What was read cannot be true.
    Damaged(String),
    /// The format version is not ours.
    Format(u64),
    /// redb panicked, as it may on a file that was tampered with.
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

/// Runs an operation on the database with panics made into problems. What it worked on must not be
/// used after one.
pub(super) fn catch_panics<T>(run: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(Problem::Panic(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked").to_string()
}
