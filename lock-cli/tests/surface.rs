//! Output that fails: every command, with its stdout on a full disk and in a pipe whose reader has
//! left, and with nowhere to complain.
