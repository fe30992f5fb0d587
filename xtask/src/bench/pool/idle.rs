//! 12,000 sessions that do nothing: what each keeps in memory, and what all cost in CPU.

use super::Setting;
use super::broker::Broker;
use super::fleet::{Fleet, Plan};
use super::programs::Who;
use crate::bench::figure::Figure;
use crate::bench::schedstat;
use crate::clock;
use crate::failure::Result;
use std::thread;
use std::time::Duration;

const DEVICES: u32 = 12_000;
const USUAL_REPS: u32 = 1;
const RSS_BAR_BYTES: f64 = 2_500.0;
const CPU_BAR_PERCENT: f64 = 1.0;
const RIVALS: [Who; 3] = [Who::Floor, Who::Rumqttc, Who::MqttJs];
/// After this, what connecting needed is given back.
const SETTLING: Duration = Duration::from_secs(10);
/// One keep-alive, so that every session pings once.
const WINDOW: Duration = Duration::from_secs(60);

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» {DEVICES} idle sessions, with {} rivals: {reps} runs.", RIVALS.len());
    let (mut rss, mut cpu) = (Vec::new(), Vec::new());
    let mut rivals = RIVALS.map(|who| (who, Vec::new()));
    for _ in 0..reps {
        let broker = Broker::start()?;
        let mut fleet = Fleet::start(setting, &broker, &Plan::of(Who::Ours, DEVICES))?;
        rss.push(settled_rss(&mut fleet, Who::Ours)?);
        cpu.push(cpu_percent(&mut fleet)?);
        fleet.quit()?;
        for (who, samples) in &mut rivals {
            broker.settle()?;
            let mut fleet = Fleet::start(setting, &broker, &Plan::of(*who, DEVICES))?;
            samples.push(settled_rss(&mut fleet, *who)?);
            fleet.quit()?;
        }
    }
    let rss = Figure::new("pool.rss_per_session_bytes", "B", Some(RSS_BAR_BYTES), rss)?;
    let with_rival =
        |figure: Figure, (who, samples): &(Who, Vec<f64>)| figure.with_rival(who.name(), samples);
    Ok(vec![
        rivals.iter().fold(rss, with_rival),
        Figure::new("pool.idle_cpu_percent", "%", Some(CPU_BAR_PERCENT), cpu)?,
    ])
}

/// Also for fleets of other sizes.
pub(super) fn settled_rss(fleet: &mut Fleet, who: Who) -> Result<f64> {
    thread::sleep(SETTLING);
    let bytes = fleet.rss_per_session()?;
    eprintln!(
        "  {}: {bytes:.0} B a session, online after {:.2} s",
        who.name(),
        fleet.online_after.as_secs_f64()
    );
    Ok(bytes)
}

fn cpu_percent(fleet: &mut Fleet) -> Result<f64> {
    let begin = clock::now();
    let before = schedstat::cpu_time(fleet.pid())?;
    thread::sleep(WINDOW);
    let used = schedstat::cpu_time(fleet.pid())?.saturating_sub(before);
    let percent = used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    eprintln!("  {percent:.3} % of a core, all sessions pinged once");
    // A fleet that has lost its sessions is idle indeed.
    fleet.rss_per_session()?;
    Ok(percent)
}
