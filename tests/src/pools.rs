//! What the pools of the scenarios have in common.

use crate::ss::Row;
use crate::wait::{self, PATIENCE};
use crate::{Mosquitto, ss};
use pool::registry::Stage;
use pool::{Broker, Builder, Cause, Device, Event, Events, Limits, Metrics, Next, Pool, State};
use std::collections::BTreeSet;
use std::time::Duration;

/// As fast as the broker takes them, and without a pause between two connects of one device.
pub fn quick() -> Limits {
    Limits { connect_spacing: Duration::ZERO, ..Limits::adaptive() }
}

/// A pool for a broker's first listener, with [`quick`] limits.
pub fn builder(broker: &Mosquitto) -> Builder {
    builder_for(&broker.url())
}

/// As [`builder`], for any address.
pub fn builder_for(url: &str) -> Builder {
    Pool::builder(Broker::parse(url).expect("invariant: a valid address")).limits(quick())
}

/// As [`builder`], built.
#[track_caller]
pub fn pool(broker: &Mosquitto) -> Pool {
    builder(broker).build().expect("all its values are valid")
}

/// A device with nothing but a name.
pub fn device(name: &str) -> Device {
    Device::new(name).expect("invariant: a valid name")
}

/// The names of a fleet: `d0`, `d1` and so on.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("d{number}")).collect()
}

/// Adds so many devices, and waits until all are online.
#[track_caller]
pub fn add_many(pool: &Pool, count: usize) {
    for name in names(count) {
        pool.add(device(&name)).expect("there is room for it");
    }
    await_online(pool, count);
}

/// Waits until so many devices are online.
#[track_caller]
pub fn await_online(pool: &Pool, count: usize) {
    wait::until(&format!("{count} devices online"), || {
        let status = pool.status();
        if status.online == count { Ok(()) } else { Err(format!("{status:?}")) }
    });
}

/// Waits until a device is in this state.
#[track_caller]
pub fn await_state(pool: &Pool, name: &str, state: State) {
    wait::until(&format!("{name} to be {}", state.name()), || {
        let status = pool.device(name).expect("it is in the pool");
        if status.state == state { Ok(()) } else { Err(format!("{status:?}")) }
    });
}

/// Waits for a future, but not for ever.
///
/// # Panics
///
/// When it takes longer than anything may take.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_elapsed) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// The next event that `pick` takes; others are dropped.
///
/// # Panics
///
/// When none comes in time, or some were lost.
pub async fn event<T>(events: &mut Events, what: &str, pick: impl Fn(Event) -> Option<T>) -> T {
    let find = async {
        loop {
            match events.next().await {
                Some(Next::Event(event)) => {
                    if let Some(picked) = pick(event) {
                        return picked;
                    }
                }
                other => panic!("{other:?} while waiting for {what}"),
            }
        }
    };
    soon(what, find).await
}

/// Why the next session or connect of this device ends.
pub async fn end_of(events: &mut Events, name: &str) -> Cause {
    event(events, &format!("the end of {name}'s session"), |event| match event {
        Event::Ended { device, cause, .. } if device.as_str() == name => Some(cause),
        _ => None,
    })
    .await
}

/// Sessions that ended and connects that failed, by the code of their cause.
pub fn ends(metrics: &Metrics, code: &str) -> u64 {
    let index = Cause::CODES.iter().position(|it| *it == code).expect("invariant: a known code");
    metrics.ended[index] + metrics.failed[index]
}

/// Asserts that the pool's ledger and the kernel's table of sockets towards `port` have the same
/// sockets online, by their cookies. Nobody else may be connected to there.
#[track_caller]
pub fn assert_ledgers_agree(pool: &Pool, port: u16) {
    let claims = pool.registry().snapshot();
    let claimed: BTreeSet<u64> =
        claims.iter().filter(|it| it.stage == Stage::Online).map(|it| it.cookie).collect();
    let there: BTreeSet<u64> = open_sockets(port).iter().filter_map(|row| row.cookie).collect();
    let only_claimed: Vec<_> = claimed.difference(&there).collect();
    let only_there: Vec<_> = there.difference(&claimed).collect();
    assert!(
        only_claimed.is_empty() && only_there.is_empty(),
        "only the registry has {only_claimed:?}, only the kernel has {only_there:?}"
    );
    let devices: BTreeSet<_> = claims.iter().map(|it| &it.device).collect();
    assert_eq!(devices.len(), claims.len(), "one claim for each device");
}

/// Waits until the kernel has so many open sockets towards `port`, of all clients.
#[track_caller]
pub fn await_sockets(port: u16, count: usize) {
    wait::until(&format!("{count} sockets towards {port}"), || {
        let open = open_sockets(port);
        if open.len() == count { Ok(()) } else { Err(format!("{open:?}")) }
    });
}

/// The clients' ends of the connections to `port` that a program can still use.
pub fn open_sockets(port: u16) -> Vec<Row> {
    ss::towards(port).into_iter().filter(Row::is_open).collect()
}
