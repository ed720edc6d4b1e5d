//! Fewer system calls for a connection that many tasks share.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::task::yield_now;

/// What goes out in one system call, in bytes: a group of requests and more. Kept for each
/// connection that has had so much to say.
const TOGETHER: usize = 32 << 10;

/// A connection whose writes wait until every task that is ready now has had its turn, so that what
/// all of them have to say goes out in one system call and wakes the other side once.
///
/// For a writer that gathers what is to be written while a write is pending, and flushes when it
/// has no more, as HTTP/2 does. One task writes; if it is alone, it waits for one more poll of
/// itself. What was written and not flushed is kept here, and lost with the connection.
#[derive(Debug)]
pub struct Batched<T> {
    connection: BufWriter<T>,
    turn: Arc<Turn>,
    /// Something waits to be written since the last flush.
    waiting: bool,
}

/// Whether the other tasks have had their turn.
#[derive(Debug, Default)]
struct Turn {
    over: AtomicBool,
    writer: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.over.store(true, Ordering::Release);
        self.writer.wake();
    }
}

impl<T: AsyncWrite> Batched<T> {
    /// Wraps a connection.
    pub fn new(connection: T) -> Self {
        Self {
            connection: BufWriter::with_capacity(TOGETHER, connection),
            turn: Arc::default(),
            waiting: false,
        }
    }

    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.turn.writer.register(cx.waker());
        if !self.waiting {
            self.waiting = true;
            let waker = Waker::from(self.turn.clone());
            // Polled once: it will wake all the same.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        }
        match self.turn.over.load(Ordering::Acquire) {
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

/// Not vectored: HTTP/2 copies small frames into one write, and the large ones are copied here.
impl<T: AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.connection).poll_flush(cx))?;
        self.waiting = false;
        self.turn.over.store(false, Ordering::Relaxed);
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
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::runtime::{Builder, Handle};

    use super::*;

    /// Remembers what was written to it by each call, and takes so many bytes of each.
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

    /// What HTTP/2 does with the frames of its streams.
    #[derive(Debug, Default)]
    struct Frames {
        said: Mutex<VecDeque<u8>>,
        writer: AtomicWaker,
    }

    impl Frames {
        fn say(&self, byte: u8) {
            self.said().push_back(byte);
            self.writer.wake();
        }

        fn said(&self) -> std::sync::MutexGuard<'_, VecDeque<u8>> {
            self.said.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Writes until this many bytes are.
        async fn write(&self, connection: &mut Batched<Calls>, count: usize) {
            let mut written = 0;
            poll_fn(|cx| {
                self.writer.register(cx.waker());
                let mut said = self.said();
                while !said.is_empty() {
                    let bytes = said.make_contiguous();
                    let taken = ready!(Pin::new(&mut *connection).poll_write(cx, bytes));
                    written += said.drain(..taken.expect("taken")).count();
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

    /// As the answers of a commit do, or the requests of a program's own threads.
    fn say_from_another_thread(frames: &Arc<Frames>, bytes: std::ops::Range<u8>) {
        let runtime = Handle::current();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for byte in bytes {
                    let frames = frames.clone();
                    runtime.spawn(async move { frames.say(byte) });
                }
            });
        });
    }

    #[test]
    fn what_all_ready_tasks_say_goes_out_at_once() {
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
                say_from_another_thread(&frames, bytes);
                connection = writer.await.expect("written");
            }
            let calls = &connection.connection.get_ref().calls;
            assert_eq!(*calls, [Vec::from_iter(0..20), Vec::from_iter(20..40)]);
        });
    }

    #[test]
    fn what_is_written_in_pieces_goes_out_at_once() {
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

    #[test]
    fn all_is_written_to_one_who_takes_little() {
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
