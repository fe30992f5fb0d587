//! EDGE: findings and the daemon's own words in systemd's journal, by its native protocol.
//!
//! Sending never waits. What journald does not take at once waits in a queue; where nobody listens,
//! stderr gets a line for each entry, with the priority before it, and the next entry looks for a
//! journal again.

mod catalog;
mod entry;
mod finding;
mod life;
mod pace;
mod recent;
mod socket;

use std::{
    collections::VecDeque,
    io::{self, Write},
    time::Duration,
};

#[cfg(test)]
pub(super) use self::finding::tests::finding as finding_with_all_facts;
pub use self::{catalog::catalog, entry::Entry, finding::entry, life::Life};
use self::{
    pace::Pace,
    recent::Recent,
    socket::{Outcome, Socket, queue_length},
};
use super::output::{Dropped, Output};
use crate::{
    clock::{self, WallClock},
    config::Sinks,
    incident::{Finding, FindingEvent},
    model::MonoTime,
};

/// Bytes that may wait for journald. Chosen: the openings of some 4,000 incidents, for a process
/// that leaks its connections leaks them all at once.
const CAPACITY: usize = 6 << 20;

/// What is said after a line that was sent before journald went away.
const UNSURE: &str = " (sent to a journald that has ended: may be in the journal too)";

/// The journal, or stderr where there is none.
pub struct Journal {
    socket: Socket,
    pace: Pace,
    queue: VecDeque<Waiting>,
    queued_bytes: usize,
    recent: Recent,
    /// `None` once stderr is closed.
    fallback: Option<Output>,
    dropped: Dropped,
    lost: u64,
    unreported: u64,
}

/// An entry that journald has not taken yet.
struct Waiting {
    bytes: Vec<u8>,
    line: String,
}

impl Journal {
    /// A journal at the socket of `sinks`. Nothing is sent yet, and nobody needs to listen.
    ///
    /// # Errors
    ///
    /// When the thread that writes to stderr cannot be started.
    pub fn open(sinks: &Sinks) -> io::Result<Self> {
        Self::with_fallback(sinks, io::stderr())
    }

    /// As [`Journal::open`], with another place than stderr.
    ///
    /// # Errors
    ///
    /// When the thread that writes to `fallback` cannot be started.
    pub fn with_fallback(sinks: &Sinks, fallback: impl Write + Send + 'static) -> io::Result<Self> {
        let fallback = Output::start(fallback)?;
        Ok(Self {
            socket: Socket::new(&sinks.journal_socket),
            pace: Pace::new(sinks.update_interval),
            queue: VecDeque::new(),
            queued_bytes: 0,
            recent: Recent::new(queue_length()),
            dropped: fallback.dropped(),
            fallback: Some(fallback),
            lost: 0,
            unreported: 0,
        })
    }

    /// Goes by new settings from now on. What waits, waits for the new socket.
    pub fn reload(&mut self, sinks: &Sinks) {
        self.pace.set_interval(sinks.update_interval);
        if self.socket.path() != sinks.journal_socket {
            self.socket = Socket::new(&sinks.journal_socket);
            self.recent.take();
        }
    }

    /// Writes a finding, unless it is an update that comes too soon after the last entry about the
    /// same incident. One that brings the call stack is as new as an opening. Never waits.
    pub fn send(&mut self, finding: &Finding, now: MonoTime) {
        let brings_stack = finding.event == FindingEvent::Updated && finding.proof.stack.is_some();
        let event = if brings_stack { FindingEvent::Opened } else { finding.event };
        if let Some(suppressed) = self.pace.admit(event, finding.id, now) {
            self.write(&entry(finding, WallClock::read(), suppressed));
        }
    }

    /// Writes an event of the daemon's life; `text` is a sentence for people. Never waits.
    pub fn tell(&mut self, life: Life, text: &str) {
        let entry = told(life, text);
        self.write(&entry);
    }

    /// Writes anything else that the daemon has to say. Never waits.
    pub fn log(&mut self, level: log::Level, text: &str) {
        // syslog has no number below 7, debug.
        let priority = match level {
            log::Level::Error => 3,
            log::Level::Warn => 4,
            log::Level::Info => 6,
            log::Level::Debug | log::Level::Trace => 7,
        };
        self.write(&Entry::new(priority, level.as_str().to_lowercase().as_str(), text));
    }

    /// Sends what waits, and waits up to `patience` in all for journald to take it: zero in a loop
    /// that has more to do, something at the end. Returns whether nothing waits any more.
    pub fn flush(&mut self, patience: Duration) -> bool {
        let deadline = clock::now().after(patience);
        loop {
            self.pump();
            let left = deadline.since(clock::now());
            if self.queue.is_empty() || left.is_zero() {
                return self.queue.is_empty();
            }
            self.socket.wait(left);
        }
    }

    /// Entries that wait for journald.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Entries that came neither to the journal nor to stderr, since the start.
    pub fn lost(&mut self) -> u64 {
        self.lost += self.dropped.take();
        self.lost
    }

    /// Updates that were not written because others of the same incident were, since the start.
    pub fn suppressed(&self) -> u64 {
        self.pace.suppressed()
    }

    fn write(&mut self, entry: &Entry) {
        self.pump();
        let waiting = Waiting { bytes: entry.encode(), line: entry.line().to_owned() };
        // One that is larger than the whole queue still has its try.
        if !self.queue.is_empty() && self.queued_bytes + waiting.bytes.len() > CAPACITY {
            self.lost += 1;
            self.unreported += 1;
            return;
        }
        self.push(waiting);
        self.pump();
    }

    fn push(&mut self, waiting: Waiting) {
        self.queued_bytes += waiting.bytes.len();
        self.queue.push_back(waiting);
    }

    /// Sends what waits, in order, as long as somebody takes it.
    fn pump(&mut self) {
        while let Some(waiting) = self.queue.front() {
            let was_connected = self.socket.is_connected();
            let outcome = self.socket.send(&waiting.bytes);
            if outcome == Outcome::Gone {
                self.mourn();
                if was_connected {
                    // Another journald may be there already.
                    continue;
                }
            }
            if outcome == Outcome::Later {
                return;
            }
            let Some(Waiting { bytes, line }) = self.queue.pop_front() else { return };
            self.queued_bytes -= bytes.len();
            if outcome == Outcome::Taken {
                self.recent.sent(line);
            } else {
                self.fall_back(line);
            }
            if self.queue.is_empty() && self.unreported > 0 {
                let lost = std::mem::take(&mut self.unreported);
                let text = format!("{lost} entries were dropped: journald did not read them");
                let entry = told(Life::EntriesLost, &text);
                self.push(Waiting { bytes: entry.encode(), line: entry.line().to_owned() });
            }
        }
    }

    /// What the journald that has ended may not have read goes to stderr.
    fn mourn(&mut self) {
        for line in self.recent.take() {
            self.fall_back(line + UNSURE);
        }
    }

    fn fall_back(&mut self, mut line: String) {
        line.push('\n');
        let written = self
            .fallback
            .as_mut()
            .is_some_and(|out| out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok());
        if !written {
            self.fallback = None;
            self.lost += 1;
        }
    }
}

impl Drop for Journal {
    /// What journald has not taken by now goes to stderr. [`Journal::flush`] before it gives
    /// journald time.
    fn drop(&mut self) {
        self.pump();
        for Waiting { line, .. } in std::mem::take(&mut self.queue) {
            self.fall_back(line);
        }
    }
}

fn told(life: Life, text: &str) -> Entry {
    let mut entry = Entry::new(life.priority(), life.code(), text);
    entry.add_message_id(life.message_id());
    entry.add("SOCKWARDEN_EVENT", life.code());
    entry
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{IoSliceMut, Read as _, Seek as _},
        mem::MaybeUninit,
        os::unix::net::UnixDatagram,
        path::{Path, PathBuf},
        sync::{
            Arc, Mutex,
            atomic::{AtomicU32, Ordering},
            mpsc,
        },
        thread,
    };

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::{entry::tests::decode, finding::tests::finding, *};
    use crate::{
        detect::Kind,
        incident::FindingEvent::{Cleared, Opened, Updated},
    };

    /// A directory of its own, removed when dropped.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("sockwarden-journal-{}-{next}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).expect("a directory");
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("socket")
        }

        /// A journald that reads when it is asked.
        fn bind(&self) -> UnixDatagram {
            let _was_there = fs::remove_file(self.socket());
            let socket = UnixDatagram::bind(self.socket()).expect("a free path");
            socket.set_nonblocking(true).expect("a socket");
            socket
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What goes to stderr.
    #[derive(Clone, Default)]
    struct Tap(Arc<Mutex<Vec<u8>>>);

    impl Write for Tap {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics here").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Tap {
        /// The lines, once there are `count`.
        #[track_caller]
        fn lines(&self, count: usize) -> Vec<String> {
            let read = || {
                let text = String::from_utf8(self.0.lock().expect("as above").clone());
                text.expect("UTF-8").lines().map(str::to_owned).collect::<Vec<_>>()
            };
            for _ in 0..500 {
                if read().len() >= count {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(read().len(), count, "{:?}", read());
            read()
        }
    }

    fn open(socket: &Path) -> (Journal, Tap) {
        let sinks = Sinks { journal_socket: socket.to_owned(), ..Sinks::default() };
        let tap = Tap::default();
        (Journal::with_fallback(&sinks, tap.clone()).expect("a thread"), tap)
    }

    fn send(journal: &mut Journal, event: FindingEvent, id: u64) {
        journal.send(&finding(Kind::CloseWait, event, id), MonoTime::from_nanos(id));
    }

    /// The next entry, if there is one.
    fn receive(socket: &UnixDatagram) -> Option<Vec<(String, String)>> {
        let mut bytes = vec![0; 1 << 20];
        let length = socket.recv(&mut bytes).ok()?;
        Some(decode(&bytes[..length]))
    }

    fn field(entry: &[(String, String)], name: &str) -> Option<String> {
        entry.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone())
    }

    /// Incidents of the entries that are there, those of sockwarden itself as 0.
    fn incidents(socket: &UnixDatagram) -> Vec<u64> {
        let id = |entry: Vec<_>| {
            field(&entry, "SOCKWARDEN_INCIDENT").map_or(0, |id| id.parse().expect("a number"))
        };
        std::iter::from_fn(|| receive(socket)).map(id).collect()
    }

    #[test]
    fn findings_and_words_arrive_as_they_are() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, tap) = open(&directory.socket());
        send(&mut journal, Opened, 7);
        let entry = receive(&journald).expect("an entry");
        assert_eq!(field(&entry, "SOCKWARDEN_INCIDENT").as_deref(), Some("7"));
        assert_eq!(field(&entry, "PRIORITY").as_deref(), Some("3"));

        journal.tell(Life::Draining, "says goodbye");
        let entry = receive(&journald).expect("an entry");
        let id = format!("{:032x}", Life::Draining.message_id());
        let expected = [
            ("MESSAGE", "says goodbye"),
            ("PRIORITY", "5"),
            ("MESSAGE_ID", id.as_str()),
            ("SOCKWARDEN_EVENT", "draining"),
        ];
        for (name, value) in expected {
            assert_eq!(field(&entry, name).as_deref(), Some(value), "{name}");
        }

        let levels = [
            (log::Level::Error, "3"),
            (log::Level::Warn, "4"),
            (log::Level::Info, "6"),
            (log::Level::Debug, "7"),
            (log::Level::Trace, "7"),
        ];
        for (level, priority) in levels {
            journal.log(level, "words");
            let entry = receive(&journald).expect("an entry");
            assert_eq!(field(&entry, "PRIORITY").as_deref(), Some(priority));
            assert_eq!(field(&entry, "MESSAGE_ID"), None);
        }
        drop(journal);
        tap.lines(0);
    }

    #[test]
    fn an_update_that_comes_too_soon_is_told_by_the_next_entry() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, _tap) = open(&directory.socket());
        for (event, entries) in [(Opened, 1), (Updated, 0), (Updated, 0), (Cleared, 1)] {
            send(&mut journal, event, 1);
            let received: Vec<_> = std::iter::from_fn(|| receive(&journald)).collect();
            assert_eq!(received.len(), entries, "{event:?}");
            let suppressed = received.first().and_then(|it| field(it, "SOCKWARDEN_SUPPRESSED"));
            assert_eq!(suppressed.as_deref(), (event == Cleared).then_some("2"));
        }
        assert_eq!((journal.suppressed(), journal.lost()), (2, 0));
    }

    #[test]
    fn an_update_that_brings_the_call_stack_is_written_at_once() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, _tap) = open(&directory.socket());
        send(&mut journal, Opened, 1);
        assert!(receive(&journald).is_some());
        let named = finding(Kind::CloseWait, Opened, 1);
        journal.send(&Finding { event: Updated, ..named }, MonoTime::from_nanos(1));
        let entry = receive(&journald).expect("it is news");
        assert_eq!(field(&entry, "SOCKWARDEN_EVENT").as_deref(), Some("updated"));
        assert!(field(&entry, "SOCKWARDEN_STACK").is_some_and(|it| it.contains("lease")));
        send(&mut journal, Updated, 1);
        assert_eq!(receive(&journald), None);
    }

    #[test]
    fn where_nobody_listens_stderr_has_it_until_somebody_does() {
        let directory = Directory::new();
        let (mut journal, tap) = open(&directory.socket());
        send(&mut journal, Opened, 1);
        send(&mut journal, Cleared, 1);
        let lines = tap.lines(2);
        assert!(lines[0].starts_with("<3>close-wait opened 1: node"), "{lines:?}");
        assert!(lines[1].starts_with("<6>close-wait cleared 1: node"), "{lines:?}");

        // A file that no process listens at, as a killed one leaves it.
        drop(directory.bind());
        send(&mut journal, Opened, 2);
        tap.lines(3);

        let journald = directory.bind();
        send(&mut journal, Opened, 3);
        assert_eq!(incidents(&journald), [3]);
        tap.lines(3);
        assert_eq!((journal.lost(), journal.waiting()), (0, 0));
    }

    #[test]
    fn what_a_slow_journald_has_not_taken_waits_in_order() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, tap) = open(&directory.socket());
        let most = queue_length() as u64 + 300;
        for id in 1..=most {
            send(&mut journal, Opened, id);
        }
        assert!(journal.waiting() > 0, "the kernel's queue is full");
        assert!(!journal.flush(Duration::ZERO));
        let mut received = Vec::new();
        while received.len() < most as usize {
            let some = incidents(&journald);
            assert!(!some.is_empty(), "stands still after {}", received.len());
            received.extend(some);
            journal.flush(Duration::ZERO);
        }
        assert_eq!(received, (1..=most).collect::<Vec<_>>());
        assert!(journal.flush(Duration::ZERO));
        assert_eq!((journal.lost(), journal.queued_bytes), (0, 0));
        drop(journal);
        tap.lines(0);
    }

    #[test]
    fn a_flush_waits_as_long_as_it_may() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, _tap) = open(&directory.socket());
        let most = queue_length() as u64 + 100;
        for id in 1..=most {
            send(&mut journal, Opened, id);
        }
        let began = clock::now();
        assert!(!journal.flush(Duration::from_millis(50)));
        let waited = clock::now().since(began);
        assert!(waited >= Duration::from_millis(50) && waited < Duration::from_secs(5));

        // Reads after a while, so that the flush has to wait for it.
        let reader = thread::spawn(move || {
            let mut count = 0;
            journald.set_nonblocking(false).expect("a socket");
            while count < most {
                thread::sleep(Duration::from_millis(1));
                count += u64::from(receive(&journald).is_some());
            }
        });
        assert!(journal.flush(Duration::from_secs(20)));
        reader.join().expect("it reads all");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_said() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, tap) = open(&directory.socket());
        let text = "x".repeat(100 << 10);
        let mut sent = 0;
        while journal.lost() < 3 {
            journal.log(log::Level::Info, &text);
            sent += 1;
            assert!(sent < 1_000 + queue_length(), "the queue has an end");
        }
        let kept = journal.waiting() * text.len();
        assert!(kept <= CAPACITY && kept > CAPACITY - (200 << 10), "{kept} bytes");
        // A short one has its place still.
        journal.log(log::Level::Info, "short");
        assert_eq!(journal.lost(), 3);

        let mut messages = Vec::new();
        for _ in 0..10_000 {
            let entries = std::iter::from_fn(|| receive(&journald));
            messages.extend(entries.filter_map(|entry| field(&entry, "MESSAGE")));
            if journal.flush(Duration::ZERO) && messages.len() >= sent - 3 + 2 {
                break;
            }
        }
        assert_eq!(messages.len(), sent - 3 + 2, "what was kept, the short one, and the report");
        assert_eq!(messages[messages.len() - 2], "short");
        assert!(messages[messages.len() - 1].starts_with("3 entries were dropped"));
        journal.log(log::Level::Info, "it is said once");
        assert_eq!(incidents(&journald), [0]);
        tap.lines(0);
    }

    #[test]
    fn what_a_journald_took_with_it_goes_to_stderr() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, tap) = open(&directory.socket());
        let queue = queue_length() as u64;
        let most = queue + 20;
        for id in 1..=most {
            send(&mut journal, Opened, id);
        }
        assert!(journal.waiting() > 0);
        drop(journald);
        assert!(journal.flush(Duration::ZERO), "nobody is there to wait for");
        let lines = tap.lines(most as usize);
        let unsure = lines.iter().filter(|line| line.ends_with(UNSURE)).count() as u64;
        assert!((1..=queue + 2).contains(&unsure), "{unsure} of {queue}");
        for (index, line) in lines.iter().enumerate() {
            let expected = format!("<3>close-wait opened {}: ", index + 1);
            assert!(line.starts_with(&expected), "{line}");
            assert_eq!(line.ends_with(UNSURE), index < unsure as usize, "{line}");
        }

        let journald = directory.bind();
        send(&mut journal, Opened, most + 1);
        assert_eq!(incidents(&journald), [most + 1]);
        assert_eq!(journal.lost(), 0);
    }

    #[test]
    fn another_journald_gets_what_the_old_one_did_not_take() {
        let directory = Directory::new();
        let old = directory.bind();
        let (mut journal, tap) = open(&directory.socket());
        send(&mut journal, Opened, 1);
        assert_eq!(incidents(&old), [1]);
        drop(old);
        let new = directory.bind();
        send(&mut journal, Opened, 2);
        assert_eq!(incidents(&new), [2]);
        let lines = tap.lines(1);
        assert!(lines[0].contains("opened 1") && lines[0].ends_with(UNSURE), "{lines:?}");
    }

    #[test]
    fn a_large_entry_comes_in_sealed_memory() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, _tap) = open(&directory.socket());
        let text = "x".repeat(3 << 20);
        journal.log(log::Level::Info, &text);
        assert_eq!((journal.waiting(), journal.lost()), (0, 0));

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut nothing = [0; 16];
        let mut buffers = [IoSliceMut::new(&mut nothing)];
        let message = recvmsg(&journald, &mut buffers, &mut control, RecvFlags::empty());
        assert_eq!(message.expect("a datagram").bytes, 0);
        let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = control.drain().next() else {
            panic!("a descriptor comes with it");
        };
        let mut file = File::from(descriptors.next().expect("one"));
        assert!(file.write_all(b"y").is_err() && file.set_len(0).is_err(), "it is sealed");
        file.rewind().expect("a file");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("a file");
        assert_eq!(field(&decode(&bytes), "MESSAGE"), Some(text));
    }

    #[test]
    fn a_closed_stderr_costs_entries_and_no_panic() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let directory = Directory::new();
        let sinks = Sinks { journal_socket: directory.socket(), ..Sinks::default() };
        let mut journal = Journal::with_fallback(&sinks, Closed).expect("a thread");
        for _ in 0..500 {
            journal.log(log::Level::Info, "words");
            if journal.lost() > 0 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let lost = journal.lost();
        assert!(lost > 0);
        journal.log(log::Level::Info, "words");
        assert_eq!(journal.lost(), lost + 1);
        assert!(journal.fallback.is_none(), "nothing is kept for nobody");
        let journald = directory.bind();
        journal.log(log::Level::Info, "words");
        assert_eq!(incidents(&journald), [0]);
    }

    #[test]
    fn a_stderr_that_nobody_reads_costs_entries_and_no_time() {
        struct Stuck(mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _until_the_test_ends = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let directory = Directory::new();
        let sinks = Sinks { journal_socket: directory.socket(), ..Sinks::default() };
        let (_keep, never) = mpsc::channel();
        let mut journal = Journal::with_fallback(&sinks, Stuck(never)).expect("a thread");
        let text = "🔥".repeat(8_000);
        for _ in 0..4_000 {
            journal.log(log::Level::Info, &text);
            if journal.lost() > 0 {
                break;
            }
        }
        assert_eq!((journal.lost(), journal.waiting()), (1, 0));
    }

    #[test]
    fn what_still_waits_at_the_end_goes_to_stderr() {
        let directory = Directory::new();
        let journald = directory.bind();
        let (mut journal, tap) = open(&directory.socket());
        let most = queue_length() + 20;
        for id in 1..=most as u64 {
            send(&mut journal, Opened, id);
        }
        let waiting = journal.waiting();
        drop(journal);
        assert!(waiting > 0);
        let lines = tap.lines(waiting);
        assert!(lines.iter().all(|line| !line.ends_with(UNSURE)), "{lines:?}");
        assert_eq!(incidents(&journald).len() + waiting, most);
    }

    #[test]
    fn a_reload_moves_to_another_socket_and_pace() {
        let (one, two) = (Directory::new(), Directory::new());
        let (first, second) = (one.bind(), two.bind());
        let (mut journal, tap) = open(&one.socket());
        send(&mut journal, Opened, 1);
        let sinks = Sinks { journal_socket: two.socket(), update_interval: Duration::ZERO };
        journal.reload(&sinks);
        send(&mut journal, Updated, 1);
        assert_eq!((incidents(&first), incidents(&second)), (vec![1], vec![1]));
        drop(second);
        send(&mut journal, Opened, 2);
        let lines = tap.lines(2);
        assert!(lines[0].contains("updated 1") && lines[1].contains("opened 2"), "{lines:?}");
    }
}
