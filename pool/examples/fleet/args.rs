use pool::{Broker, Buffers, Error, Limits, Pool, QoS, TlsOptions};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Requests that may wait for one device.
pub(crate) const OUTBOX: usize = 1_000;

/// A fleet of MQTT devices in one process.
#[derive(clap::Parser)]
pub(crate) struct Args {
    /// mqtt://, mqtts://, ws:// or wss://, with host and port.
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Broker,
    /// How many.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) devices: u32,
    /// How fast to connect: article, paced or adaptive.
    #[arg(long, default_value = "paced", value_name = "NAME", value_parser = profile)]
    pub(crate) profile: Limits,
    /// Milliseconds between two connects, in place of the profile's.
    #[arg(long, value_name = "MS")]
    pub(crate) min_interval: Option<u64>,
    /// Connects under way at once, in place of the profile's.
    #[arg(long, value_name = "N")]
    pub(crate) max_in_flight: Option<usize>,
    /// Seconds; 0 turns pings off.
    #[arg(long, default_value_t = 60, value_name = "S")]
    pub(crate) keep_alive: u64,
    /// What the names begin with.
    #[arg(long, default_value = "dev-")]
    pub(crate) prefix: String,
    /// A local address to connect from; may be given several times.
    #[arg(long, value_name = "IP")]
    pub(crate) source: Vec<IpAddr>,
    /// The certificates to believe, for mqtts and wss.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Subscribe each device to NAME/in with this quality of service.
    #[arg(long, value_name = "QOS", value_parser = quality)]
    pub(crate) subscribe: Option<QoS>,
    /// Start a storm every so many seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) storm_every: Option<Duration>,
    /// One JSON object a line, and commands on stdin.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    pub(crate) fn name(&self, number: u32) -> String {
        format!("{}{number}", self.prefix)
    }

    pub(crate) fn pool(&self) -> Result<Pool, Error> {
        let mut limits = self.profile.clone();
        if let Some(milliseconds) = self.min_interval {
            limits.min_interval = Duration::from_millis(milliseconds);
        }
        if let Some(max) = self.max_in_flight {
            limits.max_in_flight = max;
            if let Some(adaptive) = &mut limits.adaptive {
                adaptive.initial = adaptive.initial.min(max);
            }
        }
        let mut broker = self.broker.clone();
        if let Some(ca) = &self.ca {
            broker = broker.tls(TlsOptions::new().ca_file(ca));
        }
        let buffers = Buffers { outbox: OUTBOX, inflight: 100, ..Buffers::default() };
        Pool::builder(broker)
            .limits(limits)
            .buffers(buffers)
            .keep_alive(Duration::from_secs(self.keep_alive))
            .sources(self.source.iter().copied())
            .build()
    }
}

fn profile(name: &str) -> Result<Limits, String> {
    Limits::named(name).ok_or_else(|| "one of article, paced, adaptive".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "a whole number of seconds".to_owned())
}

pub(crate) fn quality(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("one of 0, 1, 2".to_owned()),
    }
}
