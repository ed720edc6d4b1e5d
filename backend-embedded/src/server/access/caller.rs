//! Whoever sent a request, with the question whether it may do what it asks for.

use std::sync::Arc;

use tonic::codegen::http::Extensions;

use super::Access;
use super::decide::{Decider, is_admin};
use super::subject::Subject;
use super::tokens::Session;
use crate::coordinator::{Authorizer, Leases, Operation};
use crate::error::Error;

/// How a caller has shown who it is.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    /// By a token, for which it has shown its password.
    Token(Arc<Session>),
    /// By the certificate of its connection.
    Certificate(Subject),
}

impl Credentials {
    fn subject(&self) -> &Subject {
        match self {
            Credentials::Token(session) => session.subject(),
            Credentials::Certificate(subject) => subject,
        }
    }
}

/// Whoever sent a request.
#[derive(Debug)]
pub(in crate::server) struct Caller {
    access: Access,
    credentials: Credentials,
}

impl Caller {
    pub(super) fn new(access: Access, credentials: Credentials) -> Self {
        Caller {
            access,
            credentials,
        }
    }

    /// Returns who sent a request, as the layer around the services has noted.
    pub(in crate::server) fn of(extensions: &Extensions) -> Option<Arc<Caller>> {
        extensions.get::<Arc<Caller>>().cloned()
    }

    /// Returns whether the caller maintains the whole store.
    pub(super) fn is_admin(&self) -> bool {
        is_admin(&self.access.rules(), self.credentials.subject())
    }
}

impl Authorizer for Caller {
    fn owner(&self) -> &Arc<str> {
        self.credentials.subject().text()
    }

    fn authorize(&self, operation: Operation<'_>, leases: &dyn Leases) -> Result<(), Error> {
        let subject = match &self.credentials {
            Credentials::Token(session) if session.is_valid(&self.access.users()) => {
                self.access.0.tokens.prolong(session);
                session.subject()
            }
            Credentials::Certificate(subject) => subject,
            Credentials::Token(_) => return Err(Error::PermissionDenied),
        };
        let rules = self.access.rules();
        let decider = Decider {
            rules: &rules,
            subject,
            leases,
        };
        match decider.allows(operation) {
            true => Ok(()),
            false => {
                // The keys are left out: they would be in the log of whoever reads it.
                tracing::debug!(subject = ?subject.text(), "a request was denied");
                Err(Error::PermissionDenied)
            }
        }
    }
}

/// Denies everything: for a request that came to a service without passing the layer.
#[derive(Debug)]
pub(in crate::server) struct Nobody(Arc<str>);

impl Nobody {
    pub(in crate::server) fn new() -> Self {
        Nobody("".into())
    }
}

impl Authorizer for Nobody {
    fn owner(&self) -> &Arc<str> {
        &self.0
    }

    fn authorize(&self, _: Operation<'_>, _: &dyn Leases) -> Result<(), Error> {
        Err(Error::PermissionDenied)
    }
}
