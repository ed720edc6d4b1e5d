//! A fence in memory, for a resource inside this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lock_core::{LockName, Token};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::error::{Error, ErrorKind};
use crate::token::FencingToken;

/// The greatest number of locks that a [`Register`] keeps a token of.
pub const MAX_LOCKS: usize = 65_536;

/// The highest token seen of each lock, kept for as long as this process lives: after a restart the
/// register admits any token. A resource that outlives the process needs a [`Fence`](crate::Fence).
/// Clones share the tokens that they have seen.
///
/// ```
/// # futures_executor::block_on(async {
/// use lock_fence::{FencingToken, Register};
///
/// let register = Register::default();
/// let later: FencingToken = "v1:exclusive:43::printer".parse()?;
/// let admitted = register.enter(&later).await?;
/// // Print. Nobody else does before `admitted` is dropped.
/// drop(admitted);
///
/// let earlier: FencingToken = "v1:exclusive:42::printer".parse()?;
/// let error = register.enter(&earlier).await.expect_err("its time is over");
/// assert!(error.is_stale());
/// # Ok::<(), lock_fence::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Register {
    seen: Arc<Mutex<HashMap<LockName, Cell>>>,
}

/// One lock's highest token. It stays locked while a writer acts with it.
type Cell = Arc<AsyncMutex<Token>>;

/// A token admitted by a [`Register`]. No other token of the same lock is admitted while this value
/// lives.
#[derive(Debug)]
#[must_use = "other tokens are admitted when it is dropped"]
pub struct Entered {
    _token: OwnedMutexGuard<Token>,
}

impl Register {
    /// Waits for earlier tokens of the lock to leave, admits this one, and keeps all others of the
    /// lock out until the returned value is dropped: the changes made meanwhile are ordered by
    /// token.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] names both tokens; [`Shared`](ErrorKind::Shared) for a reader's
    /// token; [`Full`](ErrorKind::Full) for a lock beyond [`MAX_LOCKS`].
    ///
    /// # Cancel safety
    /// A dropped call admits nothing and keeps nobody out.
    pub async fn enter(&self, token: &FencingToken) -> Result<Entered, Error> {
        token.check_writes()?;
        let mut highest = self.cell(&token.lock)?.lock_owned().await;
        if token.token < *highest {
            return Err(token.stale("the resource", *highest));
        }
        *highest = token.token;
        Ok(Entered { _token: highest })
    }

    fn cell(&self, lock: &LockName) -> Result<Cell, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = seen.get(lock) {
            return Ok(cell.clone());
        }
        // A register that forgot a lock would admit its stale tokens.
        if seen.len() >= MAX_LOCKS {
            let message = format!(
                "the lock {:?} would be one too many: a register knows {MAX_LOCKS}",
                lock.as_str()
            );
            return Err(Error::new(ErrorKind::Full, message));
        }
        let cell = Cell::new(AsyncMutex::new(Token(0)));
        seen.insert(lock.clone(), cell.clone());
        Ok(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_executor::block_on;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn token(lock: &str, number: u64) -> FencingToken {
        FencingToken::new(LockName::new(lock).expect("valid"), Token(number))
    }

    #[test]
    fn one_at_a_time_and_in_the_order_of_tokens() {
        let register = Register::default();
        let inside = block_on(register.enter(&token("a", 5))).expect("admitted");
        let _other = block_on(register.clone().enter(&token("b", 1))).expect("another lock");
        let six = token("a", 6);
        let mut waiting = pin!(register.enter(&six));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(inside);
        let Poll::Ready(Ok(inside)) = waiting.as_mut().poll(&mut context) else {
            panic!("its turn");
        };
        drop(inside);
        let error = block_on(register.enter(&token("a", 5))).expect_err("stale");
        let kind = ErrorKind::Stale {
            offered: Token(5),
            highest: Token(6),
        };
        assert_eq!(error.kind(), kind);
        block_on(register.enter(&token("a", 6)))
            .map(drop)
            .expect("the same holder");
    }

    #[test]
    fn the_index_forgets_nothing_and_stays_bounded() {
        let register = Register::default();
        for number in 0..MAX_LOCKS {
            let token = token(&number.to_string(), 7);
            block_on(register.enter(&token))
                .map(drop)
                .expect("admitted");
        }
        let error = block_on(register.enter(&token("one more", 7))).expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Full);
        let error = block_on(register.enter(&token("0", 6))).expect_err("stale");
        assert!(error.is_stale());
    }
}
