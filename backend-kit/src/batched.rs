//! Fewer system calls for a connection that many tasks share.
//!
//! # What this rests on
//! The writer polls tokio's `yield_now` once, with a waker of its own, and takes the wake-up for
//! the sign that every task that was ready has been polled. tokio does not promise that. It is how
//! tokio works today: a yielding task's waker is deferred until the scheduler has gone through its
//! run queue and has looked for new events. If that changes, no byte is lost or reordered: a
//! wake-up that comes earlier makes smaller writes, and tokio wakes a task that yields in any case.
//! The test `tokio_wakes_a_task_that_yields_after_all_that_were_ready` pins the behaviour, so that
//! an update of tokio that changes it is noticed.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::task::yield_now;

/// The most bytes that go out in one system call: more than a group of requests. A connection that
/// has once had so many to write keeps a buffer of this size.
const BUFFER_BYTES: usize = 32 << 10;

/// A connection whose writes wait until every task that is ready now has been polled. So the bytes
/// of all of them go out in one system call, and wake the other side once.
///
/// It is meant for a writer that gathers bytes while a write is pending, and flushes when it has no
/// more, as HTTP/2 does. One task writes; if no other task is ready, the write waits for one more
/// poll of that task. Bytes that were written and not flushed are kept here, and lost with the
/// connection.
///
/// # Examples
/// ```
/// use backend_kit::batched::Batched;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mut connection = Batched::new(Vec::new());
/// connection.write_all(b"one ").await?;
/// connection.write_all(b"system call").await?;
/// connection.flush().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Batched<T> {
    connection: BufWriter<T>,
    gathering: Arc<Gathering>,
    /// Whether something was to be written since the last flush.
    pending: bool,
}

/// Whether the other tasks have been polled since the first write.
#[derive(Debug, Default)]
struct Gathering {
    over: AtomicBool,
    writer: AtomicWaker,
}

impl Wake for Gathering {
    fn wake(self: Arc<Self>) {
        self.over.store(true, Ordering::Release);
        self.writer.wake();
    }
}

impl<T: AsyncWrite> Batched<T> {
    /// Wraps a connection. The writer must run on a tokio runtime.
    pub fn new(connection: T) -> Self {
        Self {
            connection: BufWriter::with_capacity(BUFFER_BYTES, connection),
            gathering: Arc::default(),
            pending: false,
        }
    }

    /// Resolves once the tasks that were ready at the first write since the last flush were polled.
    fn poll_others(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.gathering.writer.register(cx.waker());
        if !self.pending {
            self.pending = true;
            let waker = Waker::from(self.gathering.clone());
            // Polled once and dropped: tokio wakes all the same.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        }
        match self.gathering.over.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

/// Not vectored: HTTP/2 copies small frames into one write, and this copies the large ones.
impl<T: AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_others(cx));
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.connection).poll_flush(cx))?;
        self.pending = false;
        self.gathering.over.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::runtime::{Builder, Handle};

    use super::*;

    /// Records the bytes of each call, and accepts at most so many of each.
    #[derive(Debug, Default)]
    struct Calls {
        calls: Vec<Vec<u8>>,
        takes: Option<usize>,
    }

    impl AsyncWrite for Calls {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = self.takes.unwrap_or(buf.len()).min(buf.len());
            self.calls.push(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes frames of several tasks as HTTP/2 does.
    #[derive(Debug, Default)]
    struct Frames {
        frames: Mutex<VecDeque<u8>>,
        writer: AtomicWaker,
    }

    impl Frames {
        fn send(&self, byte: u8) {
            self.lock_frames().push_back(byte);
            self.writer.wake();
        }

        fn lock_frames(&self) -> std::sync::MutexGuard<'_, VecDeque<u8>> {
            self.frames.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Writes until this many bytes are written.
        async fn write(&self, connection: &mut Batched<Calls>, count: usize) {
            let mut written = 0;
            poll_fn(|cx| {
                self.writer.register(cx.waker());
                let mut frames = self.lock_frames();
                while !frames.is_empty() {
                    let bytes = frames.make_contiguous();
                    let taken = ready!(Pin::new(&mut *connection).poll_write(cx, bytes));
                    written += frames.drain(..taken.expect("taken")).count();
                }
                ready!(Pin::new(&mut *connection).poll_flush(cx)).expect("flushed");
                match written == count {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, work)
                .await
                .expect("a lost wake-up")
        })
    }

    /// Sends frames as a program does whose requests come from several threads.
    fn send_from_another_thread(frames: &Arc<Frames>, bytes: std::ops::Range<u8>) {
        let runtime = Handle::current();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for byte in bytes {
                    let frames = frames.clone();
                    runtime.spawn(async move { frames.send(byte) });
                }
            });
        });
    }

    #[test]
    fn the_bytes_of_all_ready_tasks_go_out_at_once() {
        run(async {
            let frames = Arc::new(Frames::default());
            let mut connection = Batched::new(Calls::default());
            for bytes in [0..20, 20..40] {
                let writer = tokio::spawn({
                    let frames = frames.clone();
                    async move {
                        frames.write(&mut connection, 20).await;
                        connection
                    }
                });
                send_from_another_thread(&frames, bytes);
                connection = writer.await.expect("written");
            }
            let calls = &connection.connection.get_ref().calls;
            assert_eq!(*calls, [Vec::from_iter(0..20), Vec::from_iter(20..40)]);
        });
    }

    #[test]
    fn bytes_written_in_pieces_go_out_at_once() {
        run(async {
            let mut connection = Batched::new(Calls::default());
            for piece in [&[1; 2000][..], &[2; 9]] {
                connection.write_all(piece).await.expect("written");
            }
            connection.flush().await.expect("flushed");
            let calls = &connection.connection.get_ref().calls;
            assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [2009]);
        });
    }

    /// Counts the tasks that were polled before the waker is called.
    #[derive(Default)]
    struct CountAtWake {
        polled: AtomicUsize,
        at_wake: OnceLock<usize>,
    }

    impl Wake for CountAtWake {
        fn wake(self: Arc<Self>) {
            let _ = self.at_wake.set(self.polled.load(Ordering::SeqCst));
        }
    }

    /// [`Batched`] rests on this behaviour of tokio, which tokio does not promise.
    #[test]
    fn tokio_wakes_a_task_that_yields_after_all_that_were_ready() {
        run(async {
            let counter = Arc::new(CountAtWake::default());
            for _ in 0..20 {
                let counter = counter.clone();
                tokio::spawn(async move { counter.polled.fetch_add(1, Ordering::SeqCst) });
            }
            let waker = Waker::from(counter.clone());
            let polled = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            assert_eq!(counter.at_wake.get(), None, "the wake-up is deferred");
            while counter.at_wake.get().is_none() {
                yield_now().await;
            }
            assert_eq!(counter.at_wake.get(), Some(&20));
        });
    }

    #[test]
    fn all_is_written_to_a_connection_that_accepts_little_at_a_time() {
        run(async {
            let takes = Some(3);
            let mut connection = Batched::new(Calls {
                takes,
                ..Calls::default()
            });
            for _ in 0..2 {
                connection.write_all(&[7; 10]).await.expect("written");
                connection.flush().await.expect("flushed");
            }
            let calls = &connection.connection.get_ref().calls;
            let lengths: Vec<_> = calls.iter().map(Vec::len).collect();
            assert_eq!(lengths, [3, 3, 3, 1, 3, 3, 3, 1]);
        });
    }
}
