//! The throughput of one connection, over that of rumqttc.
//!
//! The other end is no broker but `firehose serve`, which does nothing else: with Mosquitto, most
//! of the time would be Mosquitto's, and both would look alike.

use super::Setting;
use super::fleet::{Fleet, Plan};
use super::programs::{self, Who};
use super::said::Said;
use crate::bench::child::{Running, talking};
use crate::bench::figure::Figure;
use crate::failure::{Failure, Result};
use std::thread;
use std::time::Duration;

const USUAL_REPS: u32 = 5;
/// At least what rumqttc does.
const BAR: f64 = 1.0;
const RECEIVED: u32 = 1_000_000;
const PUBLISHED: u32 = 200_000;
const PAYLOAD_BYTES: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
const NEXT: &str = "start `firehose serve` by hand and look";

/// Messages a second, in each direction.
#[derive(Clone, Copy)]
struct Rates {
    receive: f64,
    publish: f64,
}

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» One connection: {RECEIVED} messages in, {PUBLISHED} out, {reps} repetitions.");
    let (mut receive, mut publish) = (Vec::new(), Vec::new());
    for rep in 0..reps {
        // Who comes first changes, so that what drifts on the host favours nobody.
        let (ours, rival) = if rep % 2 == 0 {
            let ours = rates(setting, Who::Ours)?;
            (ours, rates(setting, Who::Rumqttc)?)
        } else {
            let rival = rates(setting, Who::Rumqttc)?;
            (rates(setting, Who::Ours)?, rival)
        };
        for (who, rates) in [(Who::Ours, ours), (Who::Rumqttc, rival)] {
            let (name, receive, publish) = (who.name(), rates.receive / 1e3, rates.publish / 1e3);
            eprintln!("  {}/{reps}: {name} {receive:.0}k/s in, {publish:.0}k/s out", rep + 1);
        }
        receive.push(ours.receive / rival.receive);
        publish.push(ours.publish / rival.publish);
    }
    let receive_figure = Figure::new("pool.receive_qos0_ratio", "x", None, receive.clone())?;
    let publish_figure = Figure::new("pool.publish_qos1_ratio", "x", None, publish.clone())?;
    // The worse direction as a whole: the worse of each repetition would be the noise of both.
    let is_receive = receive_figure.value() < publish_figure.value();
    let worse = if is_receive { receive } else { publish };
    let ratio = Figure::at_least("pool.messages_ratio", "x", BAR, worse)?;
    Ok(vec![ratio, receive_figure, publish_figure])
}

fn rates(setting: &Setting, who: Who) -> Result<Rates> {
    let mut firehose = programs::helper("firehose");
    firehose.args(["serve", "--json", "--count", &RECEIVED.to_string()]);
    firehose.args(["--size", &PAYLOAD_BYTES.to_string()]);
    let firehose = Running::start("firehose serve", talking(&mut firehose))?;
    let port = hear(&firehose, "listening")?.count("port")?;
    let broker = ["--broker".to_owned(), format!("mqtt://127.0.0.1:{port}")];

    // The grant of QoS 1 is for the last message, which proves that all others are read.
    let plan = Plan { subscribe: Some(1), ..Plan::of(who, 1) };
    let mut fleet = Fleet::launch(&setting.programs, &broker, &plan)?;
    let served = hear(&firehose, "served")?.number("seconds")?;
    let (received, expected) = (counted(&mut fleet)?, u64::from(RECEIVED) + 1);
    if received != expected {
        let what = format!("{} counts {received} messages of {expected}", who.name());
        return Err(Failure::new(what, NEXT));
    }
    fleet.quit()?;

    let mut fleet = Fleet::launch(&setting.programs, &broker, &Plan::of(who, 1))?;
    let published = fleet.publish(PUBLISHED, PAYLOAD_BYTES, 1)?.as_secs_f64();
    fleet.quit()?;
    Ok(Rates { receive: f64::from(RECEIVED) / served, publish: f64::from(PUBLISHED) / published })
}

/// The acknowledgement of the last message may leave before the fleet has counted it.
fn counted(fleet: &mut Fleet) -> Result<u64> {
    let mut before = fleet.status()?.messages;
    loop {
        thread::sleep(POLL);
        let now = fleet.status()?.messages;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

fn hear(firehose: &Running, kind: &str) -> Result<Said> {
    let line = firehose.line(PATIENCE)?;
    let said = Said::parse(&line)?;
    if said.is(kind) {
        return Ok(said);
    }
    Err(Failure::new(format!("firehose says `{line}` in place of `{kind}`"), NEXT))
}
