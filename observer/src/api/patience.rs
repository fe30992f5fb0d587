//! EDGE: a stream whose peer must take what is written to it, in time.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::Counters;

/// How much a peer has to take within the time, so that one byte now and then is not enough.
const STEP: usize = 4_096;

/// Fails a write when the peer has taken too little for `patience`.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    taken: usize,
    counters: Arc<Counters>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, patience: Duration, counters: Arc<Counters>) -> Self {
        Self { stream, patience, waiting: None, taken: 0, counters }
    }

    /// The stream itself.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn dropped(&self) -> &AtomicU64 {
        &self.counters.readers_dropped
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => {
                this.taken += count;
                if count == bytes.len() || this.taken >= STEP {
                    this.waiting = None;
                    this.taken = 0;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                let patience = this.patience;
                let timer = this.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
                ready!(timer.as_mut().poll(cx));
                this.dropped().fetch_add(1, Relaxed);
                let message = format!("the client took too little for {patience:?}");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made")
            .block_on(test)
    }

    #[test]
    fn who_takes_nothing_is_dropped_and_counted() {
        run(async {
            let counters = Arc::new(Counters::default());
            let (stream, mut client) = tokio::io::duplex(8_192);
            let mut stream = Patient::new(stream, PATIENCE, Arc::clone(&counters));
            let error = stream.write_all(&[0; 20_000]).await.expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(counters.read().readers_dropped, 1);
            let mut buffer = [0; 8_192];
            client.read_exact(&mut buffer).await.expect("what fitted is there");
        });
    }

    #[test]
    fn a_byte_now_and_then_is_not_enough() {
        run(async {
            let (stream, mut client) = tokio::io::duplex(8_192);
            let mut stream = Patient::new(stream, PATIENCE, Arc::new(Counters::default()));
            let drip = async {
                loop {
                    client.read_u8().await.expect("there is more");
                    tokio::time::sleep(PATIENCE / 10).await;
                }
            };
            tokio::select! {
                result = stream.write_all(&[0; 20_000]) => assert!(result.is_err()),
                () = drip => unreachable!("it never ends"),
                () = tokio::time::sleep(PATIENCE * 10) => panic!("the drip was taken as reading"),
            }
        });
    }

    #[test]
    fn who_takes_a_part_in_time_goes_on() {
        run(async {
            let (stream, mut client) = tokio::io::duplex(8_192);
            let mut stream = Patient::new(stream, PATIENCE, Arc::new(Counters::default()));
            let read = async {
                let mut buffer = [0; 5_000];
                for _ in 0..12 {
                    client.read_exact(&mut buffer).await.expect("there is more");
                    tokio::time::sleep(PATIENCE / 2).await;
                }
            };
            let (written, ()) = tokio::join!(
                async {
                    let written = stream.write_all(&[0; 60_000]).await;
                    drop(stream);
                    written
                },
                read
            );
            assert!(written.is_ok(), "{written:?}");
        });
    }
}
