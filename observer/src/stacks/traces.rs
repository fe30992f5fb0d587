//! PURE. Which socket was opened where: stacks that were taken, and their names as they come.
//!
//! Many sockets are opened at few places. A stack that is the same as one that was named before is
//! known at once; of the others one at a time is given out to be named, for each chain of callers.
//! Apart from the table of sockets, for most of them have no stack.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
};

use super::{Named, Taken, Top, unwind::Used};
use crate::model::{Cookie, ProcessKey};

/// Sockets with a stack. Chosen: more than leak in the minutes in which somebody looks; 16 bytes
/// each once they are named. A new one is left out, and counted.
const MOST_SOCKETS: usize = 65_536;

/// Of these, those whose stack is not named yet, some 700 bytes each. A new one is left out, and
/// counted.
const MOST_RAW: usize = 2_048;

/// Chains of callers, with the stacks that begin with them. Chosen: a program has some dozens of
/// places that connect. When there is no room, those of no socket are forgotten.
const MOST_CHAINS: usize = 1_024;

/// Stacks that are kept of one chain. Chosen: they differ in the innermost callers only.
const MOST_STACKS: usize = 32;

/// Stacks with names that are kept in all, some 5 KiB each, and 64 KiB at the most. Chosen: a program
/// has some dozens. When there is no room, those that no socket has are forgotten; where sockets have
/// them all, the next ones only say [`TOO_MANY`].
const MOST_NAMED: usize = 512;

/// What is said of a stack for which there is no room.
const TOO_MANY: &str = "sockets are opened at more places than are kept";

/// A stack to be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The process.
    pub process: ProcessKey,
    /// See [`Taken`].
    pub chain: Arc<[u64]>,
    /// See [`Taken`].
    pub top: Top,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The job.
    pub job: Job,
    /// The words that the stack rests on.
    pub used: Vec<Used>,
    /// The names.
    pub named: Arc<Named>,
    /// Whether the next stack that is the same would be told the same; otherwise it is asked about
    /// again.
    pub lasts: bool,
}

/// Of which sockets what is known.
#[derive(Debug, Default)]
pub struct Traces {
    sockets: HashMap<Cookie, Entry>,
    raw: usize,
    chains: HashMap<Key, Chain>,
    jobs: VecDeque<Job>,
    /// All names that somebody has.
    alive: Vec<Weak<Named>>,
    too_many: Option<Arc<Named>>,
    left_out: u64,
}

type Key = (ProcessKey, Arc<[u64]>);

#[derive(Debug)]
enum Entry {
    Raw(Key, Top),
    Known(Arc<Named>),
}

#[derive(Debug, Default)]
struct Chain {
    stacks: Vec<Stack>,
    is_asked: bool,
}

#[derive(Debug)]
struct Stack {
    /// Words with their values.
    rests_on: Vec<(Used, u64)>,
    named: Arc<Named>,
}

impl Chain {
    fn find(&self, top: &Top) -> Option<&Arc<Named>> {
        let is_same =
            |stack: &&Stack| stack.rests_on.iter().all(|(used, is)| top.value(*used) == Some(*is));
        self.stacks.iter().find(is_same).map(|stack| &stack.named)
    }
}

impl Traces {
    /// A stack was taken. A later one of the same socket counts: an accept(2) after a transfer.
    pub fn take(&mut self, taken: Taken) {
        self.forget(taken.cookie);
        self.make_room();
        let key: Key = (taken.process, taken.chain.into());
        let known = self.chains.get(&key).and_then(|chain| chain.find(&taken.top)).cloned();
        let is_full = self.sockets.len() >= MOST_SOCKETS
            || known.is_none() && self.raw >= MOST_RAW
            || self.chains.len() >= MOST_CHAINS && !self.chains.contains_key(&key);
        if is_full {
            self.left_out += 1;
            return;
        }
        if let Some(named) = known {
            self.sockets.insert(taken.cookie, Entry::Known(named));
            return;
        }
        self.ask(&key, &taken.top);
        self.raw += 1;
        self.sockets.insert(taken.cookie, Entry::Raw(key, taken.top));
    }

    /// The next stack to be named.
    pub fn poll_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Takes in names. Says of which sockets it is known now where they were opened.
    pub fn answer(&mut self, answer: Answer) -> Vec<Cookie> {
        let Answer { job, used, named, lasts } = answer;
        let named = self.keep(named);
        let key: Key = (job.process, job.chain);
        let Some(chain) = self.chains.get_mut(&key) else { return Vec::new() };
        chain.is_asked = false;
        let value = |used: &Used| Some((*used, job.top.value(*used)?));
        if chain.stacks.len() >= MOST_STACKS {
            chain.stacks.remove(0);
        }
        chain.stacks.push(Stack { rests_on: used.iter().filter_map(value).collect(), named });
        let (mut known, mut next) = (Vec::new(), None);
        for (cookie, entry) in &mut self.sockets {
            if let Entry::Raw(its, top) = entry
                && *its == key
            {
                match chain.find(top) {
                    Some(named) => {
                        *entry = Entry::Known(named.clone());
                        known.push(*cookie);
                    }
                    None => next = Some(top.clone()),
                }
            }
        }
        if !lasts {
            chain.stacks.pop();
        }
        self.raw -= known.len();
        if let Some(top) = next {
            self.ask(&key, &top);
        }
        known.sort_unstable();
        known
    }

    /// Where a socket was opened; `None` if no stack was taken or it is not named yet.
    pub fn named(&self, cookie: Cookie) -> Option<&Arc<Named>> {
        match self.sockets.get(&cookie)? {
            Entry::Known(named) => Some(named),
            Entry::Raw(..) => None,
        }
    }

    /// Whether a stack was taken of a socket.
    pub fn has(&self, cookie: Cookie) -> bool {
        self.sockets.contains_key(&cookie)
    }

    /// The socket is over.
    pub fn forget(&mut self, cookie: Cookie) {
        if let Some(Entry::Raw(..)) = self.sockets.remove(&cookie) {
            self.raw -= 1;
        }
    }

    /// Forgets the sockets that are not alive.
    pub fn retain(&mut self, is_alive: impl Fn(Cookie) -> bool) {
        let Self { sockets, raw, .. } = self;
        sockets.retain(|cookie, entry| {
            let stays = is_alive(*cookie);
            if !stays && matches!(entry, Entry::Raw(..)) {
                *raw -= 1;
            }
            stays
        });
    }

    /// Stacks that were left out for lack of room, since the start.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Names for which there is room.
    fn keep(&mut self, named: Arc<Named>) -> Arc<Named> {
        if self.alive.len() >= MOST_NAMED {
            for chain in self.chains.values_mut() {
                chain.stacks.retain(|stack| Arc::strong_count(&stack.named) > 1);
            }
            self.alive.retain(|named| named.strong_count() > 0);
        }
        if self.alive.len() >= MOST_NAMED {
            // All of these together are one more.
            return self.too_many.get_or_insert_with(|| Arc::new(Named::unknown(TOO_MANY))).clone();
        }
        self.alive.push(Arc::downgrade(&named));
        named
    }

    fn ask(&mut self, key: &Key, top: &Top) {
        let chain = self.chains.entry(key.clone()).or_default();
        if !std::mem::replace(&mut chain.is_asked, true) {
            let (process, chain) = key.clone();
            self.jobs.push_back(Job { process, chain, top: top.clone() });
        }
    }

    /// Forgets chains that no socket waits for and nobody was asked about. Their stacks are named
    /// again when they come again.
    fn make_room(&mut self) {
        if self.chains.len() < MOST_CHAINS {
            return;
        }
        let Self { sockets, chains, .. } = self;
        let waiting: std::collections::HashSet<&Key> = sockets
            .values()
            .filter_map(|entry| match entry {
                Entry::Raw(key, _) => Some(key),
                Entry::Known(_) => None,
            })
            .collect();
        chains.retain(|key, chain| chain.is_asked || waiting.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROCESS: ProcessKey = ProcessKey { pid: 7, start_ns: 1 };
    const RETURN: Used = Used { index: 0, is_relative: false };

    fn taken(cookie: u64, chain: &[u64], word: u64) -> Taken {
        let top = Top { stack_pointer: 0x1000 + cookie, words: vec![word, cookie] };
        Taken { cookie: Cookie(cookie), process: PROCESS, chain: chain.to_vec(), top }
    }

    fn answer(job: Job, note: &str) -> Answer {
        Answer { job, used: vec![RETURN], named: Arc::new(Named::unknown(note)), lasts: true }
    }

    fn note(traces: &Traces, cookie: u64) -> Option<&str> {
        traces.named(Cookie(cookie))?.note.as_deref()
    }

    #[test]
    fn many_sockets_of_one_place_are_named_once() {
        let mut traces = Traces::default();
        for cookie in 1..=220 {
            traces.take(taken(cookie, &[1, 2], 99));
        }
        let job = traces.poll_job().expect("one");
        assert_eq!(traces.poll_job(), None);
        assert_eq!((note(&traces, 1), traces.has(Cookie(1))), (None, true));
        let known = traces.answer(answer(job, "here"));
        assert_eq!(known.len(), 220);
        assert!(known.is_sorted());
        assert_eq!(note(&traces, 220), Some("here"));
        traces.take(taken(221, &[1, 2], 99));
        assert_eq!(note(&traces, 221), Some("here"));
        assert_eq!(traces.poll_job(), None);
    }

    #[test]
    fn stacks_with_other_innermost_callers_are_told_apart() {
        let mut traces = Traces::default();
        traces.take(taken(1, &[1, 2], 50));
        traces.take(taken(2, &[1, 2], 60));
        traces.take(taken(3, &[1, 3], 50));
        let (first, second) = (traces.poll_job(), traces.poll_job());
        let (first, second) = (first.expect("one"), second.expect("of the other chain"));
        assert_eq!(traces.poll_job(), None, "one at a time of each chain");
        assert_eq!(traces.answer(answer(first, "fifty")), [Cookie(1)]);
        let third = traces.poll_job().expect("the one that was not the same");
        assert_eq!(third.top.words[0], 60);
        assert_eq!(traces.answer(answer(third, "sixty")), [Cookie(2)]);
        assert_eq!(traces.answer(answer(second, "other")), [Cookie(3)]);
        let notes = [1, 2, 3].map(|cookie| note(&traces, cookie));
        assert_eq!(notes, [Some("fifty"), Some("sixty"), Some("other")]);
    }

    #[test]
    fn an_address_of_the_stack_counts_by_its_distance() {
        let mut traces = Traces::default();
        traces.take(taken(0x10, &[1], 0x1000 + 0x10 + 8));
        let job = traces.poll_job().expect("one");
        let used = vec![Used { index: 0, is_relative: true }];
        let named = Arc::new(Named::unknown("near"));
        traces.answer(Answer { job, used, named, lasts: true });
        traces.take(taken(0x20, &[1], 0x1000 + 0x20 + 8));
        traces.take(taken(0x30, &[1], 0x1000 + 0x30 + 16));
        assert_eq!((note(&traces, 0x20), note(&traces, 0x30)), (Some("near"), None));
    }

    #[test]
    fn what_failed_for_once_is_asked_again() {
        let mut traces = Traces::default();
        traces.take(taken(1, &[1], 5));
        traces.take(taken(2, &[1], 6));
        let job = traces.poll_job().expect("one");
        let failed = Answer { used: Vec::new(), lasts: false, ..answer(job, "it took too long") };
        assert_eq!(traces.answer(failed), [Cookie(1), Cookie(2)]);
        assert_eq!((note(&traces, 1), traces.raw), (Some("it took too long"), 0));
        assert_eq!(traces.poll_job(), None, "not at once");
        traces.take(taken(3, &[1], 5));
        let job = traces.poll_job().expect("the next socket");
        traces.answer(answer(job, "here"));
        assert_eq!(note(&traces, 3), Some("here"));
    }

    #[test]
    fn another_process_is_another_stack() {
        let mut traces = Traces::default();
        traces.take(taken(1, &[1], 5));
        let job = traces.poll_job().expect("one");
        traces.answer(answer(job, "here"));
        let other = ProcessKey { start_ns: 2, ..PROCESS };
        traces.take(Taken { process: other, ..taken(2, &[1], 5) });
        assert_eq!(note(&traces, 2), None);
        assert_eq!(traces.poll_job().map(|job| job.process), Some(other));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut traces = Traces::default();
        for cookie in 1..=3 {
            traces.take(taken(cookie, &[1], 5));
        }
        traces.forget(Cookie(1));
        traces.retain(|cookie| cookie == Cookie(3));
        assert_eq!((traces.sockets.len(), traces.raw), (1, 1));
        let job = traces.poll_job().expect("one");
        assert_eq!(traces.answer(answer(job, "late")), [Cookie(3)]);
        assert_eq!(traces.raw, 0);
    }

    #[test]
    fn everything_is_bounded_and_counted() {
        let mut traces = Traces::default();
        for cookie in 1..=5_000 {
            traces.take(taken(cookie, &[cookie % 2_000], cookie));
        }
        assert_eq!(traces.left_out() + traces.sockets.len() as u64, 5_000);
        assert!(traces.chains.len() <= MOST_CHAINS && traces.raw <= MOST_RAW);
        // A place that nobody waits for makes room.
        let mut traces = Traces::default();
        for cookie in 1..=5_000 {
            traces.take(taken(cookie, &[cookie], 5));
            let job = traces.poll_job().expect("each is new");
            traces.answer(answer(job, "here"));
            assert!(traces.chains.len() <= MOST_CHAINS);
        }
        assert_eq!(traces.left_out(), 0);
        assert_eq!(note(&traces, 1), Some("here"), "the socket keeps its names");
    }

    #[test]
    fn names_are_bounded_whatever_a_program_does() {
        let mut traces = Traces::default();
        for cookie in 1..=5_000 {
            // Each at another place, and each place with a socket that lasts.
            traces.take(taken(cookie, &[cookie % 900], cookie));
            while let Some(job) = traces.poll_job() {
                let note = format!("place {}", job.top.words[0]);
                traces.answer(answer(job, &note));
            }
            let alive = traces.alive.iter().filter(|named| named.strong_count() > 0).count();
            assert!(alive <= MOST_NAMED, "{alive}");
        }
        let long = traces.sockets.values().filter(|entry| match entry {
            Entry::Known(named) => named.note.as_deref() != Some(TOO_MANY),
            Entry::Raw(..) => false,
        });
        assert!(long.count() <= MOST_NAMED);
        assert_eq!(note(&traces, 1), Some("place 1"));
        assert_eq!(note(&traces, 5_000), Some(TOO_MANY));
        // When those sockets are over, there is room again.
        traces.retain(|cookie| cookie == Cookie(1));
        traces.take(taken(6_000, &[6_000], 6_000));
        let job = traces.poll_job().expect("it is new");
        traces.answer(answer(job, "new"));
        assert_eq!(note(&traces, 6_000), Some("new"));
    }

    proptest! {
        #[test]
        fn the_number_of_raw_ones_is_right(
            steps in prop::collection::vec((0u8..4, 1u64..8, 0u64..3, 0u64..3), 0..200),
        ) {
            let mut traces = Traces::default();
            let mut jobs = Vec::new();
            for (what, cookie, chain, word) in steps {
                match what {
                    0 | 1 => traces.take(taken(cookie, &[chain], word)),
                    2 => traces.forget(Cookie(cookie)),
                    _ => {
                        jobs.extend(traces.poll_job());
                        if let Some(job) = jobs.pop() {
                            let word = job.top.words[0];
                            let known = traces.answer(answer(job, &word.to_string()));
                            for cookie in known {
                                prop_assert!(traces.named(cookie).is_some());
                            }
                        }
                    }
                }
                let is_raw = |entry: &&Entry| matches!(entry, Entry::Raw(..));
                prop_assert_eq!(traces.raw, traces.sockets.values().filter(is_raw).count());
            }
        }
    }
}
