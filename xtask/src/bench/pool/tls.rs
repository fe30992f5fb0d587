//! 2,000 idle sessions over TLS: what each keeps in memory.
//!
//! The floor is a bare rustls session on a bare socket. rumqttc is no rival here: its TLS would
//! bring a second rustls-webpki, with open advisories, into the workspace. It was measured once, by
//! hand, at 54 kB a session (0.25.1, `use-rustls`, 12,000 sessions).

use super::broker::Broker;
use super::fleet::{Fleet, Plan};
use super::programs::Who;
use super::{Setting, idle};
use crate::bench::figure::Figure;
use crate::failure::Result;

const DEVICES: u32 = 2_000;
const USUAL_REPS: u32 = 1;
const BAR_BYTES: f64 = 20_000.0;

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» {DEVICES} idle sessions over TLS, with a rival: {reps} runs.");
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..reps {
        let broker = Broker::start_with_tls()?;
        for (who, samples) in [(Who::Ours, &mut ours), (Who::Floor, &mut floor)] {
            let mut fleet = Fleet::start(setting, &broker, &Plan::of(who, DEVICES))?;
            samples.push(idle::settled_rss(&mut fleet, who)?);
            fleet.quit()?;
            broker.settle()?;
        }
    }
    let figure = Figure::new("pool.rss_per_tls_session_bytes", "B", Some(BAR_BYTES), ours)?;
    Ok(vec![figure.with_rival(Who::Floor.name(), &floor)])
}
