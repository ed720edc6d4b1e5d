//! What the store is kept in: the tables, and the journal before them.

use redb::{Database, StorageBackend};

use super::journal::Journal;
use super::problem::Problem;
use super::tables;
use super::{Batch, Deleted, Loaded};

/// Both, open.
#[derive(Debug)]
pub(super) struct Files {
    database: Database,
    journal: Journal,
    /// What the journal has and the tables lack.
    behind: Batch,
    deleted: Deleted,
}

impl Files {
    /// Opens them, and reads both. No commit is written to the tables: there may be no room for it.
    pub(super) fn open(
        database: impl StorageBackend,
        journal: impl StorageBackend,
    ) -> Result<(Files, Loaded), Problem> {
        let database = tables::builder().create_with_backend(database)?;
        tables::upgrade(&database)?;
        let mut loaded = tables::load(&database)?;
        let (id, tables_end) = (loaded.identity.cluster_id, loaded.sequence);
        let (journal, batches) = Journal::open(Box::new(journal), id, tables_end)?;
        let mut behind = Batch::default();
        if !batches.is_empty() {
            loaded.sequence += batches.len() as u64;
            for batch in batches {
                loaded.deleted.note(&batch);
                behind.add(batch);
            }
            behind.apply(&mut loaded.snapshot);
            tables::check(&loaded.snapshot)?;
        }
        let files = Files {
            database,
            journal,
            behind,
            deleted: loaded.deleted.clone(),
        };
        Ok((files, loaded))
    }

    /// Records a commit. Once this returns it survives a power cut.
    pub(super) fn write(&mut self, batch: Batch, sequence: u64) -> Result<(), Problem> {
        self.deleted.note(&batch);
        if self.journal.append(sequence, &batch)? {
            self.behind.add(batch);
            return Ok(());
        }
        self.behind.add(batch);
        tables::write(&self.database, &self.behind, &self.deleted, sequence)?;
        self.deleted.written();
        self.behind = Batch::default();
        self.journal.restart();
        Ok(())
    }
}
