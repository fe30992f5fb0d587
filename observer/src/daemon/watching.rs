//! The observer's loop, on the thread that the process began with.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc,
    time::sleep,
};

use super::{DaemonError, sink::Alarm};
use crate::{
    clock,
    config::Sinks,
    desk::Question,
    detect::Budgets,
    kernel,
    life::watchdog::{Beats, Loop},
    observer::{Observer, ObserverError},
    selection::Selection,
    sinks::journal::Life,
    trends::Thresholds,
    tuning::Rule,
};

/// Least time between two looks at the ring, however often the pool asks for receipts: in a storm
/// one look serves many.
const LEAST_PAUSE: Duration = Duration::from_micros(500);

/// How long the end waits for journald to take the last entries.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the front wants of the observer.
pub(super) enum Order {
    /// Other budgets and rules.
    Tuning(Box<Budgets>, Vec<Rule<Timestamp>>),
    /// Other thresholds.
    Thresholds(Thresholds),
    /// More to watch.
    Watch(Selection),
    /// Other settings of the journal.
    Sinks(Sinks),
    /// Something for the journal.
    Tell(Life, String),
    /// The end.
    Finish,
}

/// What wakes the loop.
enum Event {
    /// Time to look at the ring, or a deadline of the core.
    Tick,
    /// The ring is half full.
    Filling,
    /// The pool waits for a receipt.
    Awaited,
    /// Somebody asks.
    Asked(Question),
    /// The front wants something.
    Ordered(Order),
}

/// The loop and what it needs.
pub(super) struct Watching {
    runtime: Runtime,
    observer: Observer,
    alarm: Alarm,
    questions: mpsc::Receiver<Question>,
    orders: mpsc::UnboundedReceiver<Order>,
    beats: Beats,
}

impl Watching {
    pub(super) fn new(
        observer: Observer,
        mut alarm: Alarm,
        questions: mpsc::Receiver<Question>,
        orders: mpsc::UnboundedReceiver<Order>,
        beats: Beats,
    ) -> Result<Self, DaemonError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::system("starting a runtime"))?;
        alarm
            .journal()
            .tell(Life::Started, "sockwarden has opened what it needs and begins to watch");
        Ok(Self { runtime, observer, alarm, questions, orders, beats })
    }

    /// Takes the first snapshot.
    pub(super) fn begin(&mut self) -> Result<(), DaemonError> {
        Ok(self.observer.pump(&mut self.alarm)?)
    }

    /// Runs until it is told to end, or nobody is left who could tell it.
    pub(super) fn run(self) -> Result<(), DaemonError> {
        let Self { runtime, observer, alarm, questions, orders, beats } = self;
        let result = runtime.block_on(watch(observer, alarm, questions, orders, &beats));
        beats.retire(Loop::Observer);
        Ok(result?)
    }
}

async fn watch(
    mut observer: Observer,
    mut alarm: Alarm,
    mut questions: mpsc::Receiver<Question>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    beats: &Beats,
) -> Result<(), ObserverError> {
    let ring = kernel::wait_on(observer.ring_fd()?)?;
    let awaited = observer.awaited().unwrap_or_default();
    let mut looked = clock::now();
    loop {
        let event = tokio::select! {
            order = orders.recv() => Event::Ordered(order.unwrap_or(Order::Finish)),
            Some(question) = questions.recv() => Event::Asked(question),
            ready = ring.readable() => {
                ready?.clear_ready();
                Event::Filling
            }
            () = awaited.notified() => Event::Awaited,
            () = sleep(observer.idle_time()) => Event::Tick,
        };
        match event {
            Event::Asked(question) => observer.answer(question),
            Event::Ordered(Order::Finish) => break,
            Event::Ordered(order) => obey(&mut observer, &mut alarm, order),
            Event::Awaited => {
                let pause = LEAST_PAUSE.saturating_sub(clock::now().since(looked));
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
            Event::Tick | Event::Filling => {}
        }
        // Whatever it was: a question too is answered from what is known, and the ring goes on.
        observer.pump(&mut alarm)?;
        looked = clock::now();
        beats.beat(Loop::Observer, looked);
    }
    observer.pump(&mut alarm)?;
    alarm.journal().tell(Life::Stopped, "sockwarden ends");
    alarm.journal().flush(LAST_WORDS);
    Ok(())
}

fn obey(observer: &mut Observer, alarm: &mut Alarm, order: Order) {
    match order {
        Order::Tuning(budgets, rules) => observer.set_tuning(*budgets, rules),
        Order::Thresholds(thresholds) => observer.set_thresholds(thresholds),
        Order::Watch(selection) => {
            if let Err(error) = observer.watch_too(selection) {
                log::error!("what the new config names cannot be watched: {error}");
            }
        }
        Order::Sinks(sinks) => alarm.journal().reload(&sinks),
        Order::Tell(life, text) => alarm.journal().tell(life, &text),
        Order::Finish => {}
    }
}
