//! How long 12,000 connects take, over what they take at the least.

use super::Setting;
use super::broker::Broker;
use super::fleet::{Fleet, Plan};
use super::programs::Who;
use crate::bench::figure::Figure;
use crate::failure::Result;

const DEVICES: u32 = 12_000;
const USUAL_REPS: u32 = 5;
const BAR: f64 = 1.3;

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» {DEVICES} connects, 50 at once, with 2 rivals: {reps} repetitions.");
    // One broker for all: from the second run on, thousands of ports are in TIME_WAIT.
    let broker = Broker::start()?;
    let (mut ours, mut rumqttc) = (Vec::new(), Vec::new());
    for rep in 0..reps {
        // Who comes first changes, so that what drifts on the host favours nobody.
        let (first, second) = match rep % 2 {
            0 => (Who::Ours, Who::Floor),
            _ => (Who::Floor, Who::Ours),
        };
        let times = [seconds(setting, &broker, first)?, seconds(setting, &broker, second)?];
        let [our_time, floor] = if first == Who::Ours { times } else { [times[1], times[0]] };
        let rival = seconds(setting, &broker, Who::Rumqttc)?;
        eprintln!(
            "  {}/{reps}: {our_time:.2} s, floor {floor:.2} s, rumqttc {rival:.2} s",
            rep + 1
        );
        ours.push(our_time / floor);
        rumqttc.push(rival / floor);
    }
    let figure = Figure::new("pool.connect_12000_ratio", "x", Some(BAR), ours)?;
    Ok(vec![figure.with_rival(Who::Rumqttc.name(), &rumqttc)])
}

fn seconds(setting: &Setting, broker: &Broker, who: Who) -> Result<f64> {
    broker.settle()?;
    let fleet = Fleet::start(setting, broker, &Plan::of(who, DEVICES))?;
    let seconds = fleet.online_after.as_secs_f64();
    fleet.quit()?;
    Ok(seconds)
}
