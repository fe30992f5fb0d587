//! The broker for tests, tested itself: by rumqttc's own clients, which know nothing of it, and by
//! bare sockets where it has to be wrong.

mod clients;
mod faults;
mod lifecycle;
mod raw;

use pool::testing::{Counters, TestBroker};
use std::time::Duration;

/// Far above what anything here takes, so that only a fault reaches it, in seconds.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> TestBroker {
    TestBroker::start().await.expect("invariant: loopback has free ports")
}

/// Waits until the counters are so.
async fn until(broker: &TestBroker, what: &str, is_so: impl Fn(&Counters) -> bool) -> Counters {
    let waiting = async {
        loop {
            let counters = broker.counters();
            if is_so(&counters) {
                return counters;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(counters) => counters,
        Err(_) => panic!("never {what}: {:#?}", broker.counters()),
    }
}
