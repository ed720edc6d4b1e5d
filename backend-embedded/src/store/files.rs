//! The files of the store: the tables, and the journal before them.

use redb::{Database, StorageBackend};

use super::journal::Journal;
use super::problem::Problem;
use super::tables;
use super::{Batch, Deletions, LoadedState};

/// The open tables and the open journal.
#[derive(Debug)]
pub(super) struct Files {
    database: Database,
    journal: Journal,
    /// What the journal holds and the tables lack.
    journaled: Batch,
    deletions: Deletions,
}

impl Files {
    /// Opens and reads both. No commit is written to the tables, because there may be no space for
    /// it.
    pub(super) fn open(
        database: impl StorageBackend,
        journal: impl StorageBackend,
    ) -> Result<(Files, LoadedState), Problem> {
        let database = tables::builder().create_with_backend(database)?;
        tables::upgrade(&database)?;
        let mut loaded = tables::load(&database)?;
        let (id, tables_end) = (loaded.identity.cluster_id, loaded.sequence);
        let (journal, batches) = Journal::open(Box::new(journal), id, tables_end)?;
        let mut journaled = Batch::default();
        if !batches.is_empty() {
            loaded.sequence += batches.len() as u64;
            for batch in batches {
                loaded.deletions.record(&batch);
                journaled.merge(batch);
            }
            journaled.apply(&mut loaded.snapshot);
            tables::check(&loaded.snapshot)?;
        }
        let files = Files {
            database,
            journal,
            journaled,
            deletions: loaded.deletions.clone(),
        };
        Ok((files, loaded))
    }

    /// Returns the bytes of the journal that are taken up by commits.
    #[cfg(feature = "server")]
    pub(super) fn journal_bytes(&self) -> u64 {
        self.journal.end() as u64
    }

    /// Records a commit. After this returns, the commit survives a power cut.
    pub(super) fn write(&mut self, batch: Batch, sequence: u64) -> Result<(), Problem> {
        self.deletions.record(&batch);
        if self.journal.append(sequence, &batch)? {
            self.journaled.merge(batch);
            return Ok(());
        }
        self.journaled.merge(batch);
        tables::write(&self.database, &self.journaled, &self.deletions, sequence)?;
        self.deletions.mark_written();
        self.journaled = Batch::default();
        self.journal.restart();
        Ok(())
    }
}
