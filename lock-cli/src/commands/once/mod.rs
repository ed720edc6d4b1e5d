//! `turnlock run --once`: a command that has ended well under a key is not run again.
//!
//! The record of a lock's keys is a value in the coordinator. Each change of it is one transaction with
//! the proof that the lock is held. So the record says `started` before the command runs, and `ended`
//! only while nobody else can have run it. If the end of a command was not recorded, because this
//! process, the machine or the coordinator failed, then nobody knows whether the command has done its
//! work, and it is not run again unless the user says so.

mod record;

use std::time::{Duration, SystemTime};

use turnlock::{Guard, LockName, Mode, clock};

use self::record::{MAX_KEY_BYTES, Mark, Record, RecordError};
use crate::cli::OnceOptions;
use crate::exit::{Exit, Failure};
use crate::log::format_utc;
use crate::output::{escape_controls, say};

/// The begin of the keys of the records in the coordinator. The name of the lock follows.
const PREFIX: &str = "turnlock.once/";

/// A run of a command that is wanted once.
pub struct Once<'a> {
    options: &'a OnceOptions,
    key: &'a str,
    /// The key of the lock's record.
    record: String,
}

/// The record while the command runs. Nobody else changes it under this lock.
pub struct Begun {
    record: Record,
    /// Whether the end of an earlier run is not known. A run that fails does not change that.
    was_unknown: bool,
}

impl<'a> Once<'a> {
    /// Reads the options of the command line; `None` if the command is not wanted once.
    ///
    /// # Errors
    /// Usage errors.
    pub fn parse(
        options: &'a OnceOptions,
        name: &LockName,
        mode: Mode,
    ) -> Result<Option<Self>, Failure> {
        let Some(key) = options.once.as_deref() else {
            return Ok(None);
        };
        let refuse = |why: String| Failure::new(Exit::Usage, format!("--once: {why}"));
        if mode == Mode::Shared {
            return Err(refuse(
                "others may run the command at the same time under a shared lock".to_owned(),
            )
            .hint("leave out -s"));
        }
        if name.is_raw() {
            return Err(refuse(
                "a raw lock belongs to no namespace, so it would have a record in each".to_owned(),
            )
            .hint("take a lock of a namespace: leave out --raw"));
        }
        if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
            return Err(refuse(format!(
                "the key {:?} is not 1 to {MAX_KEY_BYTES} bytes of text without control characters",
                escape_controls(key)
            ))
            .hint("name the work, such as invoice-2026-11"));
        }
        let record = format!("{PREFIX}{name}");
        // A key of a value obeys the rules of names.
        LockName::new(&record).map_err(|error| {
            refuse(format!("the lock cannot have a record: {error}"))
                .hint("use a lock with a shorter name")
        })?;
        Ok(Some(Once {
            options,
            key,
            record,
        }))
    }

    /// Notes in the record that the command starts; returns `None` if it has ended well before. Takes
    /// one or two round trips.
    ///
    /// # Errors
    /// The end of an earlier run is not known, the lock is lost, the coordinator refuses, or the record
    /// cannot be used. The command must not be run.
    pub async fn begin(&self, guard: &Guard) -> Result<Option<Begun>, Failure> {
        let stored = guard.get(&self.record).await?;
        let mut record = Record::parse(stored.as_deref()).map_err(|why| self.to_failure(&why))?;
        let now = clock::unix_millis();
        record.forget(now);
        match record.find(self.key) {
            Some(Mark {
                forget_at: Some(_),
                started_at,
                token,
            }) => {
                say(format!(
                    "{}: {} was done by the run of {} (token {token}); it is not run again",
                    guard.name(),
                    escape_controls(self.key),
                    to_time(started_at)
                ));
                return Ok(None);
            }
            Some(mark) if !self.options.once_rerun_unknown => {
                return Err(self.to_unknown(guard.name(), mark));
            }
            // The record says already that it has started.
            Some(_) => {
                return Ok(Some(Begun {
                    record,
                    was_unknown: true,
                }));
            }
            None => {}
        }
        record
            .start(self.key, now, guard.token().0)
            .map_err(|why| self.to_failure(&why))?;
        guard.put(&self.record, record.to_bytes()).await?;
        Ok(Some(Begun {
            record,
            was_unknown: false,
        }))
    }

    /// Takes back the note that the command starts, if [`begin`](Self::begin) was given up and made it.
    pub async fn withdraw(&self, guard: &Guard) -> Result<(), Failure> {
        let stored = guard.get(&self.record).await?;
        let record = Record::parse(stored.as_deref()).map_err(|why| self.to_failure(&why))?;
        let is_ours = |mark: Mark| mark.token == guard.token().0;
        if !record.find(self.key).is_some_and(is_ours) {
            return Ok(());
        }
        let begun = Begun {
            record,
            was_unknown: false,
        };
        self.end(guard, begun, false).await
    }

    /// Notes in the record how the command has ended: it has ended well, or it may be run again, unless
    /// the end of an earlier run is not known.
    ///
    /// # Errors
    /// The lock is lost, or the coordinator refuses. The end of the command is not known then.
    pub async fn end(&self, guard: &Guard, begun: Begun, is_done: bool) -> Result<(), Failure> {
        let Begun {
            mut record,
            was_unknown,
        } = begun;
        match is_done {
            true => record.finish(self.key, clock::unix_millis(), self.options.once_for),
            false if was_unknown => return Ok(()),
            false => record.clear(self.key),
        }
        let put = guard.put(&self.record, record.to_bytes()).await;
        put.map_err(|error| {
            let failure = Failure::from(error);
            Failure {
                message: format!(
                    "{}: the end of the command was not recorded under {}: {}",
                    guard.name(),
                    escape_controls(self.key),
                    failure.message
                ),
                ..failure
            }
        })
    }

    fn to_unknown(&self, name: &LockName, mark: Mark) -> Failure {
        Failure::new(
            Exit::Unknown,
            format!(
                "{name}: a run under {} started at {} (token {}), and nobody knows whether it has \
                 done its work; nothing was run",
                escape_controls(self.key),
                to_time(mark.started_at),
                mark.token
            ),
        )
        .hint("find out what it did; --once-rerun-unknown runs the command again")
    }

    fn to_failure(&self, why: &RecordError) -> Failure {
        let failure = Failure::new(
            Exit::Configuration,
            format!(
                "the record of --once at {:?} cannot be used: {why}",
                self.record
            ),
        );
        failure.hint(match why {
            RecordError::Foreign(_) => "do not use keys that begin with turnlock.once/ yourself",
            RecordError::Version(_) => "use the version of turnlock that wrote it, or a later one",
            RecordError::Full => {
                "let keys be forgotten sooner (--once-for), or use several locks for unlike work"
            }
        })
    }
}

fn to_time(millis: u64) -> String {
    format_utc(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}
