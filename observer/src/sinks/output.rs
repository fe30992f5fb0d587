//! EDGE: standard output that never makes the observer wait.
//!
//! A reader that sleeps (a pager, a stopped terminal) must not keep us from emptying the ring, nor
//! from ending. So a thread of its own writes, from a queue that is bounded; what does not fit is
//! dropped whole lines at a time, counted, and reported as a loss.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// Bytes that may wait for the reader: half a minute of the busiest stream.
const CAPACITY: usize = 64 << 20;

/// How long the end waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_millis(100);

/// A queue before standard output. What is written is queued with [`Write::flush`].
pub struct Output {
    pending: Vec<u8>,
    chunks: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
    done: mpsc::Receiver<()>,
}

/// What the writing thread and the others know of each other.
#[derive(Default)]
struct Shared {
    queued: AtomicUsize,
    dropped: AtomicU64,
    failed: Mutex<Option<io::ErrorKind>>,
}

/// How many lines were dropped; outlives the [`Output`] that it belongs to.
#[derive(Clone)]
pub struct Dropped(Arc<Shared>);

impl Dropped {
    /// Lines dropped since the last call.
    pub fn take(&self) -> u64 {
        self.0.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Output {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (chunks, queue) = mpsc::channel();
        let (finished, done) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            write_all(out, &queue, &theirs);
            drop(finished);
        })?;
        Ok(Self { pending: Vec::new(), chunks, shared, done })
    }

    /// The count of what was dropped.
    pub fn dropped(&self) -> Dropped {
        Dropped(Arc::clone(&self.shared))
    }

    fn check(&self) -> io::Result<()> {
        let failed = self.shared.failed.lock().map_or(None, |failed| *failed);
        failed.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Queues what was written since the last time.
    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.pending);
        if self.shared.queued.load(Ordering::Relaxed) + chunk.len() > CAPACITY {
            let lines = chunk.iter().filter(|byte| **byte == b'\n').count();
            self.shared.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            return Ok(());
        }
        self.shared.queued.fetch_add(chunk.len(), Ordering::Relaxed);
        // The thread ends early only after a failure, which the next call returns.
        let _ = self.chunks.send(chunk);
        Ok(())
    }
}

impl Drop for Output {
    /// Gives the reader a moment to take what is queued.
    fn drop(&mut self) {
        let _ = self.flush();
        // Without a sender the thread ends when the queue is empty, and `done` with it.
        let (closed, _) = mpsc::channel();
        self.chunks = closed;
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

fn write_all(mut out: impl Write, queue: &mpsc::Receiver<Vec<u8>>, shared: &Shared) {
    for chunk in queue {
        if let Err(error) = out.write_all(&chunk).and_then(|()| out.flush()) {
            if let Ok(mut failed) = shared.failed.lock() {
                *failed = Some(error.kind());
            }
            return;
        }
        shared.queued.fetch_sub(chunk.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until it is let.
    struct Sleeper(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Sleeper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sleeping_reader_costs_lines_and_no_time() {
        let (wake, sleep) = mpsc::channel();
        let (sender, read) = mpsc::channel();
        let mut output = Output::start(Sleeper(sleep, sender)).expect("a thread");
        let dropped = output.dropped();
        for _ in 0..3 {
            let line = [vec![b'x'; CAPACITY / 2 - 1], b"\n".to_vec()].concat();
            output.write_all(&line).and_then(|()| output.flush()).expect("never waits");
        }
        assert_eq!((dropped.take(), dropped.take()), (1, 0), "two fit, the third does not");
        drop(wake);
        drop(output);
        assert_eq!(read.iter().map(|chunk| chunk.len()).sum::<usize>(), CAPACITY);
    }

    #[test]
    fn a_closed_reader_is_an_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut output = Output::start(Closed).expect("a thread");
        let failed = (0..1000).find_map(|_| {
            thread::sleep(Duration::from_millis(1));
            output.write_all(b"line\n").and_then(|()| output.flush()).err()
        });
        assert_eq!(failed.map(|error| error.kind()), Some(io::ErrorKind::BrokenPipe));
    }
}
