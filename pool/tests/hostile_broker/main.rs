//! The pool against brokers that real ones cannot be made to be: whatever one of them does to a
//! session, it costs that session, by name, and no other.

mod costs;
mod sessions;

use pool::testing::{Behaviour, TestBroker};
use pool::{
    BackoffPolicy, Broker, Builder, Cause, Device, Event, Events, Limits, Next, Pool,
    TakeoverPolicy, Version,
};
use std::time::Duration;
use tokio::time::timeout;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn broker() -> TestBroker {
    TestBroker::start().await.expect("invariant: loopback has free ports")
}

/// As fast as the broker takes them, with short waits.
fn builder(broker: &TestBroker, version: Version) -> Builder {
    let address = Broker::parse(&broker.url()).expect("invariant: its own address");
    let backoff = BackoffPolicy { base: Duration::from_millis(50), ..BackoffPolicy::default() };
    let takeover = TakeoverPolicy { times: 3, ..TakeoverPolicy::default() };
    Pool::builder(address)
        .version(version)
        .limits(Limits { connect_spacing: Duration::ZERO, ..Limits::adaptive() })
        .backoff(backoff)
        .takeover(takeover)
}

fn add(pool: &Pool, names: &[&str]) {
    for name in names {
        pool.add(Device::new(name).expect("invariant: a name")).expect("it is new");
    }
}

/// Waits for the first event that is asked for.
async fn event<T>(events: &mut Events, what: impl Fn(&Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            match events.next().await.expect("the pool is there") {
                Next::Event(event) => {
                    if let Some(found) = what(&event) {
                        return found;
                    }
                }
                Next::Gap(lost) => panic!("{lost} events are lost"),
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("it happens in time")
}

async fn online(events: &mut Events, name: &str) {
    event(events, |event| match event {
        Event::Online { device, .. } if device.as_str() == name => Some(()),
        _ => None,
    })
    .await;
}

async fn end_of(events: &mut Events, name: &str) -> (Cause, Option<Duration>) {
    event(events, |event| match event {
        Event::Ended { device, cause, lived, .. } if device.as_str() == name => {
            Some((cause.clone(), *lived))
        }
        _ => None,
    })
    .await
}

fn hostile(broker: &TestBroker, name: &str, behaviour: Behaviour) {
    broker.set_behaviour_of(name, behaviour);
}
