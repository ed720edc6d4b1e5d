//! Where there are no abstract sockets, an owner is not known when its folder is gone: it notices by
//! itself within a moment, and whoever comes next does not wait for that.

use std::os::unix::net::UnixStream;

use rustix::fd::BorrowedFd;

use super::place::{Identity, Place};
use crate::error::Error;

/// See `presence.rs`.
#[derive(Debug)]
pub(super) struct Presence;

impl Presence {
    pub(super) fn take(_: &Place) -> Result<Presence, Error> {
        Ok(Presence)
    }

    pub(super) fn asked(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::empty()
    }

    pub(super) fn asking(&self) -> Vec<UnixStream> {
        Vec::new()
    }
}

pub(super) fn answer(_: Vec<UnixStream>, _: Identity) {}
