//! The server of the models: the real state machine of the embedded coordinator, behind the real
//! decoding and encoding of etcd's messages. It holds the lease of one session.

use std::sync::Arc;
use std::time::Duration;

use backend_embedded::Limits;
use backend_embedded::machine::op::{KeyRange, KeyValue, Range, Revision, Txn as MachineTxn};
use backend_embedded::machine::{Changes, FIRST_REVISION, Machine, Snapshot};
use backend_embedded::server::models::{decode_txn, encode_txn};
use etcd_client::proto::PbTxnRequest;
use etcd_client::{Txn, TxnResponse};
use lock_core::{Effect, EntryId, Error, ErrorKind, LossReason, SessionId};

/// The leases of the sessions.
pub const SESSIONS: [SessionId; 2] = [SessionId(7), SessionId(8)];

const TTL: Duration = Duration::from_secs(10);

/// Returns the error of a request that was lost, or whose reply was.
pub fn lost(effect: Effect) -> Error {
    Error::new(ErrorKind::Unreachable, "lost").with_effect(effect)
}

/// Returns the number of an entry's incarnation; zero if it is not known.
pub fn incarnation(entry: &EntryId) -> u64 {
    entry.incarnation.map_or(0, |number| number.get())
}

/// A request as the server decodes it.
pub fn decode(txn: &Txn) -> MachineTxn {
    let request = PbTxnRequest::from(txn.clone());
    decode_txn(request).expect("the product sends what its server accepts")
}

/// The state of the store between two requests. The machine is made of it for each request, since a
/// list of shared keys is copied faster than the machine's indexes.
#[derive(Debug, Clone)]
pub struct Server {
    pub revision: Revision,
    pub keys: Vec<Arc<KeyValue>>,
    pub live: [bool; 2],
}

impl Server {
    pub fn new() -> Self {
        Server {
            revision: FIRST_REVISION,
            keys: Vec::new(),
            live: [true; 2],
        }
    }

    /// Executes a transaction, and returns the reply.
    ///
    /// # Errors
    /// [`ErrorKind::SessionLost`] if the transaction puts a key on a lease that is gone. It is the only
    /// refusal that the models can meet.
    pub fn execute(&mut self, txn: &MachineTxn) -> Result<TxnResponse, Error> {
        let mut machine = self.machine();
        let result = machine.txn(txn, &mut Changes::default());
        let result = result.map_err(|refusal| match refusal {
            backend_embedded::Error::LeaseNotFound { .. } => {
                Error::session_lost(LossReason::SessionGone)
            }
            other => Error::new(ErrorKind::Internal, other.to_string()),
        })?;
        self.take(&machine);
        Ok(TxnResponse(encode_txn(self.revision, &result)))
    }

    /// Ends a session, as an expired lease does.
    pub fn revoke(&mut self, session: usize) {
        let mut machine = self.machine();
        let revoked = machine.revoke(SESSIONS[session].0, &mut Changes::default());
        revoked.expect("a lease is revoked once");
        self.live[session] = false;
        self.take(&machine);
    }

    fn machine(&self) -> Machine {
        let live = SESSIONS.iter().zip(self.live).filter(|(_, live)| *live);
        let snapshot = Snapshot {
            revision: self.revision,
            compact_revision: 0,
            keys: self.keys.clone(),
            leases: live.map(|(session, _)| (session.0, TTL)).collect(),
        };
        Machine::restore(Limits::default(), snapshot, Duration::ZERO)
    }

    fn take(&mut self, machine: &Machine) {
        let all = KeyRange::Span {
            start: b"\0".as_slice().into(),
            end: None,
        };
        let found = machine.range(&Range::all(all)).expect("a read of now");
        self.keys = found.kvs;
        self.revision = machine.revision();
    }
}
