//! What most Rust programs would take: one rumqttc event loop for each device, with its defaults.
//!
//! It keeps the contract of [`harness::fleet`], without TLS and without source addresses, for
//! rumqttc makes its own sockets and lets nobody bind them.

#![forbid(unsafe_code)]

use harness::clock;
use harness::fleet::order::{Order, orders};
use harness::fleet::{self, Fleet, RETRY};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;

/// What rumqttc's own examples give it.
const REQUESTS: usize = 10;

/// What all devices share.
struct Shared {
    fleet: Fleet,
    gate: Semaphore,
    acknowledged: AtomicU64,
    acknowledgement: Notify,
}

fn main() -> io::Result<()> {
    let fleet = Fleet::from_command_line();
    let args = &fleet.args;
    args.refuse(&[("--source", !args.source.is_empty()), ("--ca", args.ca.is_some())])?;
    let shared = Arc::new(Shared {
        gate: Semaphore::new(args.permits()),
        fleet,
        acknowledged: AtomicU64::new(0),
        acknowledgement: Notify::new(),
    });
    let runtime = fleet::runtime();
    runtime.block_on(run(shared));
    runtime.shutdown_background();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "as its examples have it: a task for each loop")]
async fn run(shared: Arc<Shared>) {
    let mut orders = orders(shared.fleet.report);
    shared.fleet.begin();
    let mut first = None;
    for number in 0..shared.fleet.args.devices {
        let (client, events) = AsyncClient::new(options(&shared.fleet, number), REQUESTS);
        if number == 0 {
            first = Some(client.clone());
        }
        tokio::spawn(device(Arc::clone(&shared), client, events, number));
    }
    while let Some(order) = orders.recv().await {
        match (order, &first) {
            (Order::Status, _) => shared.fleet.status(),
            (Order::Quit, _) => break,
            (Order::Publish { count, size, qos }, Some(client)) => {
                publish(&shared, client, count, size, quality(qos)).await;
            }
            (Order::Publish { .. }, None) => shared.fleet.report.refuse("there is no device"),
        }
    }
}

fn options(fleet: &Fleet, number: u32) -> MqttOptions {
    let broker = &fleet.args.broker;
    let mut options = MqttOptions::new(fleet.args.client_id(number), &broker.host, broker.port);
    options.set_keep_alive(Duration::from_secs(fleet.args.keep_alive.into()));
    options
}

async fn device(shared: Arc<Shared>, client: AsyncClient, mut events: EventLoop, number: u32) {
    let fleet = &shared.fleet;
    loop {
        let permit = shared.gate.acquire().await;
        let connected = events.poll().await;
        drop(permit);
        // Its first event after a connect is CONNACK; a refusal is an error.
        if connected.is_err() {
            fleet.failed();
            sleep(RETRY).await;
            continue;
        }
        if let Some(qos) = fleet.args.subscribe {
            let topic = format!("{}/in", fleet.args.client_id(number));
            // The queue is of this loop, which is here, so it can only be full.
            let _ = client.try_subscribe(topic, quality(qos));
        } else {
            fleet.up();
        }
        let was_up = live(&shared, &mut events).await;
        if was_up {
            fleet.down();
        } else {
            fleet.failed();
        }
    }
}

/// From CONNACK to the end of the connection; whether the device was online in between.
async fn live(shared: &Shared, events: &mut EventLoop) -> bool {
    let mut is_up = shared.fleet.args.subscribe.is_none();
    loop {
        match events.poll().await {
            Ok(event) => is_up |= observe(shared, &event),
            Err(ConnectionError::RequestsDone) => std::future::pending().await,
            Err(_) => return is_up,
        }
    }
}

/// Counts what happened; whether the device is online by it.
fn observe(shared: &Shared, event: &Event) -> bool {
    match event {
        Event::Incoming(Packet::Publish(_)) => shared.fleet.message(),
        Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => {
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            shared.acknowledgement.notify_one();
        }
        Event::Incoming(Packet::SubAck(_)) => {
            shared.fleet.up();
            return true;
        }
        _ => {}
    }
    false
}

async fn publish(shared: &Shared, client: &AsyncClient, count: u32, size: usize, qos: QoS) {
    let topic = format!("{}/up", shared.fleet.args.client_id(0));
    let payload = vec![b'x'; size];
    let begin = clock::now();
    let target = shared.acknowledged.load(Ordering::Relaxed) + u64::from(count);
    for _ in 0..count {
        if client.publish(&topic, qos, false, payload.clone()).await.is_err() {
            shared.fleet.report.refuse("the event loop has ended");
            return;
        }
    }
    while qos != QoS::AtMostOnce && shared.acknowledged.load(Ordering::Relaxed) < target {
        shared.acknowledgement.notified().await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    shared.fleet.report.say("published", json!({ "count": count, "seconds": seconds }));
}

fn quality(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
