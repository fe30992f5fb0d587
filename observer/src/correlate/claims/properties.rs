//! What holds for every backend whose word is not older than the budget.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::backend::{BEGIN, Backend, PID, claim};
use crate::{
    cgroup::Place,
    claims::Statement,
    correlate::{Config, kernel_model::Op},
    detect::Kind,
    incident::FindingEvent,
    model::Cookie,
    tuning::{Act as RuleAct, Rule},
};

/// How late the backend notices what its sockets do, at the most.
const LAG: u64 = 300;

/// How late its word is received, at the most. With the lag no more than the budget, a second.
const DELAY: u64 = 690;

/// Milliseconds of one step.
const STEP: u64 = 10;

#[derive(Clone, Copy, Debug)]
enum Act {
    Connect {
        device: u8,
        lag: u64,
    },
    PeerCloses {
        which: u8,
        lag: u64,
    },
    PeerResets {
        which: u8,
        lag: u64,
    },
    /// The backend ends a connection and takes its claim back, in this order or the other.
    End {
        which: u8,
        lag: u64,
    },
    /// It forgets a connection that lives on.
    Forget(u8),
    /// It does not notice the end of a connection.
    Miss(u8),
    Put {
        delay: u64,
    },
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let lag = || 0..=LAG;
    prop_oneof![
        4 => (0_u8..4, lag()).prop_map(|(device, lag)| Act::Connect { device, lag }),
        2 => (any::<u8>(), lag()).prop_map(|(which, lag)| Act::PeerCloses { which, lag }),
        2 => (any::<u8>(), lag()).prop_map(|(which, lag)| Act::PeerResets { which, lag }),
        2 => (any::<u8>(), lag()).prop_map(|(which, lag)| Act::End { which, lag }),
        1 => any::<u8>().prop_map(Act::Forget),
        1 => any::<u8>().prop_map(Act::Miss),
        8 => (0..=DELAY).prop_map(|delay| Act::Put { delay }),
        6 => (0_u64..400).prop_map(|steps| Act::Wait(steps * STEP)),
    ]
}

/// What the backend believes, and what it will notice.
struct Model {
    backend: Backend,
    now: u64,
    registry: BTreeMap<Cookie, u8>,
    /// The registry at each moment at which it changed.
    history: Vec<(u64, BTreeMap<Cookie, u8>)>,
    /// When it will notice what.
    todo: BTreeSet<(u64, Cookie, Todo)>,
    /// Registries under way: when they come, and which.
    letters: Vec<(u64, BTreeMap<Cookie, u8>)>,
    missed: BTreeSet<Cookie>,
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Todo {
    Claim(u8),
    Close,
    Retract,
}

impl Model {
    fn new(rules: Vec<Rule>) -> Self {
        let mut model = Self {
            backend: Backend::with(2, Config { rules, ..Config::default() }),
            now: 0,
            registry: BTreeMap::new(),
            history: Vec::new(),
            todo: BTreeSet::new(),
            letters: Vec::new(),
            missed: BTreeSet::new(),
            seen: 0,
        };
        model.changed();
        // Whoever speaks for the first time says nothing of sockets that are gone already.
        model.act(Act::Put { delay: 0 });
        model
    }

    fn changed(&mut self) {
        self.history.push((self.now, self.registry.clone()));
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Connect { device, lag } => {
                let cookie = self.backend.connect();
                self.todo.insert((self.now + lag, cookie, Todo::Claim(device)));
            }
            Act::PeerCloses { which, lag } => self.peer_ends(Op::PeerCloses(which), lag),
            Act::PeerResets { which, lag } => self.peer_ends(Op::PeerResets(which), lag),
            Act::End { which, lag } => {
                if let Some(cookie) = self.one_of_ours(which) {
                    // A lag that is odd: it takes the claim back first.
                    let (close, retract) = if lag % 2 == 0 { (0, lag) } else { (lag, 0) };
                    self.todo.insert((self.now + close, cookie, Todo::Close));
                    self.todo.insert((self.now + retract, cookie, Todo::Retract));
                }
            }
            Act::Forget(which) => {
                if let Some(cookie) = self.one_of_ours(which) {
                    self.todo.insert((self.now, cookie, Todo::Retract));
                }
            }
            Act::Miss(which) => {
                if let Some(cookie) = self.one_of_ours(which) {
                    self.missed.insert(cookie);
                }
            }
            Act::Put { delay } => self.letters.push((self.now + delay, self.registry.clone())),
            Act::Wait(ms) => self.pass(self.now + ms),
        }
        self.pass(self.now);
    }

    fn one_of_ours(&self, which: u8) -> Option<Cookie> {
        let live: Vec<_> = self.registry.keys().filter(|it| self.backend.is_live(**it)).collect();
        (!live.is_empty()).then(|| *live[usize::from(which) % live.len()])
    }

    fn peer_ends(&mut self, op: Op, lag: u64) {
        let live = |model: &Self| -> BTreeSet<Cookie> {
            let held = model.backend.held().into_iter().map(|(_, cookie)| cookie);
            held.filter(|cookie| model.backend.is_live(*cookie)).collect()
        };
        let before = live(self);
        self.backend.run(op);
        for cookie in before.difference(&live(self)) {
            if !self.missed.contains(cookie) {
                self.todo.insert((self.now + lag, *cookie, Todo::Close));
                self.todo.insert((self.now + lag, *cookie, Todo::Retract));
            }
        }
    }

    fn pass(&mut self, until: u64) {
        loop {
            while let Some((_, cookie, todo)) =
                self.todo.first().copied().filter(|(at, _, _)| *at <= self.now)
            {
                self.todo.pop_first();
                self.do_it(cookie, todo);
            }
            // Those that come at once come in any order.
            while let Some(at) = self.letters.iter().position(|(at, _)| *at <= self.now) {
                let (_, letter) = self.letters.swap_remove(at);
                let named: Vec<_> =
                    letter.iter().map(|(cookie, device)| (*cookie, device.to_string())).collect();
                let claims = named.iter().map(|(cookie, it)| claim(*cookie, it)).collect();
                let lease = Some(Duration::from_secs(3_600));
                self.backend.say(vec![Statement::All { claims, lease }]).expect("there is room");
            }
            self.check();
            if self.now >= until {
                return;
            }
            self.now += STEP;
            self.backend.at(self.now);
            // Before anything else happens at this moment.
            self.check();
        }
    }

    fn do_it(&mut self, cookie: Cookie, todo: Todo) {
        match todo {
            // It ended before it was noticed.
            Todo::Claim(_) if !self.backend.is_live(cookie) => {
                if self.backend.held().iter().any(|(_, held)| *held == cookie) {
                    self.backend.close(cookie);
                }
            }
            Todo::Claim(device) => {
                self.registry.insert(cookie, device);
                self.changed();
            }
            Todo::Close => {
                if self.backend.held().iter().any(|(_, held)| *held == cookie) {
                    self.backend.close(cookie);
                }
            }
            Todo::Retract => {
                if self.registry.remove(&cookie).is_some() {
                    self.changed();
                }
            }
        }
    }

    /// The registries that the backend had within the last `ms`.
    fn registries(&self, ms: u64) -> impl Iterator<Item = &BTreeMap<Cookie, u8>> {
        let since = self.now.saturating_sub(ms);
        let first = self.history.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        self.history[first..].iter().map(|(_, registry)| registry)
    }

    /// What has opened must not be wrong about anything that was settled for longer than the
    /// largest delay.
    fn check(&mut self) {
        let new = self.backend.findings[self.seen..].to_vec();
        self.seen += new.len();
        for finding in new.iter().filter(|it| it.event == FindingEvent::Opened) {
            let cookie = finding.cookie().expect("they are about sockets");
            let device = finding.device.as_ref();
            match finding.kind {
                Kind::Orphan => {
                    let is_free = |it: &BTreeMap<_, _>| !it.contains_key(&cookie);
                    assert!(self.registries(DELAY + LAG).any(is_free), "claimed: {finding:?}");
                    assert!(!finding.holders.is_empty(), "not held: {finding:?}");
                }
                Kind::Ghost => {
                    assert!(!self.backend.is_live(cookie), "live: {finding:?}");
                    let stands = |it: &BTreeMap<_, _>| it.contains_key(&cookie);
                    assert!(self.registries(DELAY + LAG).any(stands), "not said: {finding:?}");
                }
                Kind::Overlap => {
                    let other = device.and_then(|it| it.other).expect("it names the other one");
                    let both = |it: &BTreeMap<_, _>| {
                        it.contains_key(&cookie) && it.get(&cookie) == it.get(&other)
                    };
                    assert!(self.history.iter().any(|(_, it)| both(it)), "never: {finding:?}");
                    let live = [cookie, other].map(|it| self.backend.is_live(it));
                    assert_eq!(live, [true, true], "{finding:?}");
                }
                kind => panic!("{kind} is the pool's"),
            }
        }
    }

    /// What is truly wrong now, and was for long.
    fn truth(&self) -> Vec<(Kind, u64)> {
        let brokers = !self.registry.is_empty();
        let mut wrong = Vec::new();
        for (_, cookie) in self.backend.held() {
            let state = self.backend.kernel.state(cookie);
            use crate::model::TcpState::{CloseWait, Established};
            let is_open = matches!(state, Some(Established | CloseWait));
            if brokers && is_open && !self.registry.contains_key(&cookie) {
                wrong.push((Kind::Orphan, cookie.0));
            }
        }
        let mut devices: BTreeMap<u8, Vec<Cookie>> = BTreeMap::new();
        for (cookie, device) in &self.registry {
            if self.backend.is_live(*cookie) {
                devices.entry(*device).or_default().push(*cookie);
            } else {
                wrong.push((Kind::Ghost, cookie.0));
            }
        }
        for sockets in devices.values() {
            // All but the oldest, up to a limit.
            wrong.extend(sockets.iter().skip(1).take(8).map(|it| (Kind::Overlap, it.0)));
        }
        wrong.sort_unstable();
        wrong
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn late_and_reordered_words_raise_nothing_wrong_and_the_end_is_the_truth(
        acts in vec(act(), 1..60),
    ) {
        let mut model = Model::new(Vec::new());
        for act in acts {
            model.act(act);
        }
        // All letters arrive; then it says the same a few times.
        model.pass(model.now + 3_000);
        for _ in 0..3 {
            model.act(Act::Put { delay: 0 });
            model.pass(model.now + 2_500);
        }
        prop_assert_eq!(model.backend.open(), model.truth());
        model.backend.put(&[]).at(model.now + 100);
        prop_assert_eq!(model.backend.open(), []);
    }
    #[test]
    fn a_rule_silences_until_its_end_and_counts_what_would_be_open(
        acts in vec(act(), 1..60),
        of_unit in any::<bool>(),
    ) {
        // Longer than any story.
        let until = BEGIN.after(Duration::from_secs(600));
        let act = RuleAct::Ignore { reason: "it is being mended".into(), until };
        let unit = of_unit.then(|| "a.service".parse().expect("invariant: a pattern"));
        let kinds = Kind::OF_REGISTRY.to_vec();
        let rule =
            Rule { kinds, comm: None, unit, container: None, destination: None, act };
        let mut model = Model::new(vec![rule]);
        let place = Place { unit: Some("a.service".into()), container: None };
        model.backend.places.insert(PID, place);
        for act in acts {
            model.act(act);
        }
        model.pass(model.now + 3_000);
        let settle = |model: &mut Model| {
            for _ in 0..3 {
                model.act(Act::Put { delay: 0 });
                model.pass(model.now + 2_500);
            }
        };
        settle(&mut model);
        prop_assert_eq!(model.backend.told(), [""; 0]);
        // What is ignored asks for no snapshot: the next one by itself shows it.
        model.pass(model.now + 10_000);
        let ignored = model.backend.correlator.ignored();
        prop_assert_eq!(ignored, model.truth().len());
        model.pass(600_100);
        settle(&mut model);
        prop_assert_eq!(model.backend.open(), model.truth());
        prop_assert_eq!(model.backend.correlator.ignored(), 0);
    }
}
