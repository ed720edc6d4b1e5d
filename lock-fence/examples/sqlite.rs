//! A ledger in SQLite that only the holder of the latest token writes to.
//!
//! ```sh
//! turnlock run ledger -c 'cargo run -p lock-fence --example sqlite -- ledger.db 5'
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use lock_fence::{FencingToken, sql};
use rusqlite::{Connection, TransactionBehavior};

/// Opens the ledger, and makes it if there is none.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(30))?;
    database.execute_batch(sql::TABLE)?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS ledger (id INTEGER PRIMARY KEY, entry TEXT NOT NULL)",
    )?;
    Ok(database)
}

/// Posts an entry. A stale token fails with the name of the constraint, `stale_token`.
pub fn post(
    database: &mut Connection,
    token: &FencingToken,
    entry: &str,
) -> Result<(), Box<dyn Error>> {
    // Immediate: it waits for others before it has read anything that they could change.
    let change = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = i64::try_from(token.token.0)?;
    change.execute(sql::ADMIT, (token.lock.as_str(), number))?;
    change.execute("INSERT INTO ledger (entry) VALUES (?1)", [entry])?;
    Ok(change.commit()?)
}

/// Returns all entries, in the order in which they were posted.
pub fn entries(database: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = database.prepare("SELECT entry FROM ledger ORDER BY id")?;
    query.query_map([], |row| row.get(0))?.collect()
}

#[allow(dead_code)] // The tests use the functions above.
fn main() -> Result<(), Box<dyn Error>> {
    let token = std::env::var("TURNLOCK_FENCING_TOKEN")?.parse()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, entry] = &arguments[..] else {
        return Err("give the database and the entry".into());
    };
    let mut database = open(Path::new(path))?;
    post(&mut database, &token, entry)?;
    println!("{:?}", entries(&database)?);
    Ok(())
}
