//! Connections that a program opens or accepts by means of its own.

use tokio::io::{AsyncRead, AsyncWrite};

/// An open connection: a socket, a tunnel, or a pipe within the process.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
