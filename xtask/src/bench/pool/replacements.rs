//! Messages of QoS 1 and 2 while their connection is replaced again and again.

use super::Setting;
use super::broker::Broker;
use super::programs;
use super::said::Said;
use crate::bench::child::{self, Running, talking};
use crate::bench::figure::Figure;
use crate::failure::Result;
use std::time::Duration;

const USUAL_REPS: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let program = programs::example("replacements")?;
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» Messages across replacements of their connection: {reps} runs.");
    let (mut lost, mut doubled) = (Vec::new(), Vec::new());
    for _ in 0..reps {
        let broker = Broker::start()?;
        let mut command = child::mortal(&program);
        command.args(broker.options()).arg("--json");
        let running = Running::start("replacements", talking(&mut command))?;
        let result = loop {
            let said = Said::parse(&running.line(PATIENCE)?)?;
            if said.is("result") {
                break said;
            }
        };
        let (replaced, seconds) = (result.count("replacements")?, result.number("seconds")?);
        eprintln!("  {replaced} replacements in {seconds:.1} s");
        lost.push(result.number("lost")?);
        doubled.push(result.number("doubled")?);
    }
    Ok(vec![
        Figure::new("pool.qos_lost", "", Some(0.0), lost)?,
        Figure::new("pool.qos2_doubled", "", Some(0.0), doubled)?,
    ])
}
