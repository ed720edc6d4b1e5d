//! A ledger in PostgreSQL that only the holder of the latest token writes to.
//!
//! ```sh
//! turnlock run ledger -c 'cargo run -p lock-fence --example postgres -- "host=/run/postgresql user=app" 5'
//! ```

use std::error::Error;

use lock_fence::{FencingToken, sql};
use postgres::{Client, NoTls};

/// Opens the ledger, and makes it if there is none.
pub fn open(url: &str) -> Result<Client, postgres::Error> {
    let mut database = Client::connect(url, NoTls)?;
    database.batch_execute(sql::TABLE)?;
    database.batch_execute(
        "CREATE TABLE IF NOT EXISTS ledger (id BIGINT GENERATED ALWAYS AS IDENTITY, entry TEXT \
         NOT NULL)",
    )?;
    Ok(database)
}

/// Posts an entry. A stale token fails with the name of the constraint, `stale_token`.
pub fn post(
    database: &mut Client,
    token: &FencingToken,
    entry: &str,
) -> Result<(), Box<dyn Error>> {
    let mut change = database.transaction()?;
    let number = i64::try_from(token.token.0)?;
    change.execute(sql::ADMIT, &[&token.lock.as_str(), &number])?;
    change.execute("INSERT INTO ledger (entry) VALUES ($1)", &[&entry])?;
    Ok(change.commit()?)
}

/// Returns all entries, in the order in which they were posted.
pub fn entries(database: &mut Client) -> Result<Vec<String>, postgres::Error> {
    let rows = database.query("SELECT entry FROM ledger ORDER BY id", &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[allow(dead_code)] // The tests use the functions above.
fn main() -> Result<(), Box<dyn Error>> {
    let token = std::env::var("TURNLOCK_FENCING_TOKEN")?.parse()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, entry] = &arguments[..] else {
        return Err("give the database and the entry".into());
    };
    let mut database = open(url)?;
    post(&mut database, &token, entry)?;
    println!("{:?}", entries(&mut database)?);
    Ok(())
}
