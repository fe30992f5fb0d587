//! 20,000 messages a second to 12,000 sessions: none may be lost, neither message nor session.

use super::Setting;
use super::broker::Broker;
use super::fleet::{Fleet, Plan, Status};
use super::programs::{self, Who};
use super::said::Said;
use crate::bench::figure::Figure;
use crate::clock;
use crate::failure::{Failure, Result};
use crate::sh;
use std::thread;
use std::time::Duration;

const DEVICES: u32 = 12_000;
const USUAL_REPS: u32 = 1;
const RATE: u32 = 20_000;
const SECONDS: u32 = 10;
const QOS: u8 = 1;
/// For what is still in the broker when the last message was sent.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» {RATE} messages a second to {DEVICES} sessions for {SECONDS} s: {reps} runs.");
    let samples = (0..reps).map(|_| run(setting)).collect::<Result<_>>()?;
    Ok(vec![Figure::new("pool.fanout_lost", "", Some(0.0), samples)?])
}

fn run(setting: &Setting) -> Result<f64> {
    let broker = Broker::start()?;
    let plan = Plan { subscribe: Some(QOS), ..Plan::of(Who::Ours, DEVICES) };
    let mut fleet = Fleet::start(setting, &broker, &plan)?;
    let sent = fire(&broker, plan.prefix())?;
    let deadline = clock::now() + DRAIN_PATIENCE;
    let mut status = fleet.status()?;
    while status.messages < sent && clock::now() < deadline {
        thread::sleep(POLL);
        status = fleet.status()?;
    }
    eprintln!("  {} of {sent} messages, {} sessions lost", status.messages, status.disconnects);
    fleet.quit()?;
    lost(sent, status)
}

/// How many messages the broker has acknowledged: they are its and the fleet's to deliver.
fn fire(broker: &Broker, prefix: &str) -> Result<u64> {
    let mut firehose = programs::helper("firehose");
    firehose.args(["publish", "--json", "--prefix", prefix]).args(broker.options());
    firehose.arg(format!("--rate={RATE}")).arg(format!("--seconds={SECONDS}"));
    firehose.arg(format!("--topics={DEVICES}")).arg(format!("--qos={QOS}"));
    let said = sh::output(&mut firehose, "start `firehose publish` by hand and look")?;
    let said = Said::parse(said.trim())?;
    let late = said.number("seconds")? > f64::from(SECONDS) * 1.1;
    let (sent, acknowledged) = (said.count("count")?, said.count("acknowledged")?);
    if late || acknowledged < sent {
        let what = format!("this host is too slow: the broker did not take {RATE} a second");
        return Err(Failure::new(what, "run it again on a quiet host"));
    }
    Ok(sent)
}

/// A message that comes twice hides one that does not come; but both need a lost session.
fn lost(sent: u64, status: Status) -> Result<f64> {
    if status.messages > sent && status.disconnects == 0 {
        let what = format!("{} messages came, {sent} were sent", status.messages);
        return Err(Failure::new(what, "look for who else publishes, or report a bug"));
    }
    Ok((sent.saturating_sub(status.messages) + status.disconnects) as f64)
}
