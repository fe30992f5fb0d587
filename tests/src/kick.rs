//! Somebody takes over the sessions of a fleet, with the same client ids, and goes.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait;

/// Sessions that the kicker opens at once. Together with a pool's they stay below the backlog of a
/// broker, 100: no SYN is dropped, which would cost a second.
const IN_FLIGHT: &str = "16";

/// A kicker under way; it is ended when dropped.
#[derive(Debug)]
pub struct Kick(Child);

impl Kick {
    /// Starts `program`, the binary `kicker`, on the sessions `PREFIX0` and so on. It comes from an
    /// address of its own, so that it takes no port from the fleet.
    #[track_caller]
    pub fn start(program: &str, url: &str, prefix: &str, devices: u32) -> Self {
        let child = Command::new(program)
            .args(["--json", "--source", "127.0.0.9", "--max-in-flight", IN_FLIGHT])
            .args(["--broker", url, "--prefix", prefix, "--devices", &devices.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot run {program}: {error}")))
    }

    /// Waits until it has taken over all sessions and has gone.
    #[track_caller]
    pub fn finish(mut self) {
        let child = &mut self.0;
        let status = wait::within(Duration::from_secs(60), "the kicker to end", || {
            child.try_wait().expect("it is our child").ok_or_else(|| "it runs".to_owned())
        });
        let mut said = String::new();
        let out = child.stdout.as_mut().expect("invariant: a pipe");
        out.read_to_string(&mut said).expect("it can be read");
        assert!(status.success() && said.contains("kicked"), "{status}: {said}");
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}
