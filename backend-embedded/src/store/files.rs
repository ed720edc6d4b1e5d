//! What the store is kept in: the tables, and the journal before them.

use redb::{Database, StorageBackend};

use super::journal::Journal;
use super::problem::Problem;
use super::tables::{self, Survives};
use super::{Batch, Loaded};

/// Both, open.
#[derive(Debug)]
pub(super) struct Files {
    database: Database,
    journal: Journal,
}

impl Files {
    /// Opens them, and brings the tables up to the journal.
    pub(super) fn open(
        database: impl StorageBackend,
        journal: impl StorageBackend,
    ) -> Result<(Files, Loaded), Problem> {
        let database = tables::builder().create_with_backend(database)?;
        tables::upgrade(&database)?;
        let mut loaded = tables::load(&database)?;
        let (id, tables_end) = (loaded.identity.cluster_id, loaded.sequence);
        let (journal, batches) = Journal::open(Box::new(journal), id, tables_end)?;
        if !batches.is_empty() {
            for (sequence, batch) in (tables_end + 1..).zip(&batches) {
                tables::write(&database, batch, sequence, Survives::Later)?;
            }
            loaded = tables::load(&database)?;
        }
        Ok((Files { database, journal }, loaded))
    }

    /// Records a commit. Once this returns it survives a power cut.
    pub(super) fn write(&mut self, batch: &Batch, sequence: u64) -> Result<(), Problem> {
        if self.journal.append(sequence, batch)? {
            return tables::write(&self.database, batch, sequence, Survives::Later);
        }
        tables::write(&self.database, batch, sequence, Survives::Now)?;
        self.journal.restart();
        Ok(())
    }
}
