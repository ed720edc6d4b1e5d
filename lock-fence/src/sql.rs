//! A fence in a database, by one statement for both SQLite and PostgreSQL.
//!
//! [`ADMIT`] is the first statement of each transaction that writes the data which the lock
//! protects. It takes the lock's name and the token. A stale token violates the table's constraint
//! `stale_token`, so the database itself refuses the transaction, even if the program ignores the
//! error. Other tokens of the same lock wait until the transaction ends, so check and change are
//! one step.
//!
//! ```
//! use lock_fence::{FencingToken, sql};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut database = rusqlite::Connection::open_in_memory()?;
//! database.execute_batch(sql::TABLE)?;
//! database.execute_batch("CREATE TABLE ledger (amount INTEGER NOT NULL)")?;
//!
//! let mut post = |token: &str, amount: i64| -> Result<(), Box<dyn std::error::Error>> {
//!     let token: FencingToken = token.parse()?;
//!     let number = i64::try_from(token.token.0)?;
//!     let change = database.transaction()?;
//!     change.execute(sql::ADMIT, (token.lock.as_str(), number))?;
//!     change.execute("INSERT INTO ledger VALUES (?1)", [amount])?;
//!     Ok(change.commit()?)
//! };
//! post("v1:exclusive:43::ledger", 5)?;
//! let error = post("v1:exclusive:42::ledger", 7).expect_err("its time is over");
//! assert!(error.to_string().contains("stale_token"));
//! # Ok(())
//! # }
//! ```
//!
//! A token is a `BIGINT`; every coordinator's tokens fit. With PostgreSQL, every isolation level
//! works; from REPEATABLE READ on, a transaction that had to wait can fail with the request to try
//! again. The examples `sqlite` and `postgres` of this crate are whole programs.

/// Creates the table of the highest token seen of each lock, if there is none.
pub const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS turnlock_fence (
    lock TEXT PRIMARY KEY,
    token BIGINT NOT NULL CONSTRAINT stale_token CHECK (token >= 0)
)";

/// Admits the token `$2` of the lock `$1`, or fails if it is stale.
pub const ADMIT: &str = "\
INSERT INTO turnlock_fence (lock, token) VALUES ($1, $2)
ON CONFLICT (lock) DO UPDATE SET token =
    CASE WHEN excluded.token >= turnlock_fence.token THEN excluded.token ELSE -1 END";
