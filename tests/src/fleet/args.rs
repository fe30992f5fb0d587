//! The command line.

use clap::Parser;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

/// MQTT clients, one connection each.
#[derive(Clone, Debug, Parser)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    /// Where to connect: mqtt://HOST:PORT, or mqtts:// with --ca.
    #[arg(long, value_name = "URL")]
    pub broker: Broker,
    /// How many.
    #[arg(long, value_name = "N")]
    pub devices: u32,
    /// How many may connect at once, from the dial to CONNACK; all without this.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_in_flight: Option<u32>,
    /// MQTT's keep-alive in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub keep_alive: u16,
    /// Client ids are this and a number from 0.
    #[arg(long, default_value = "dev-")]
    pub prefix: String,
    /// The address to connect from; several are taken in turn.
    #[arg(long, value_name = "IP")]
    pub source: Vec<IpAddr>,
    /// The certificate, in PEM, that signed the broker's: connect with TLS.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Subscribe each device to its own topic.
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub subscribe: Option<u8>,
    /// One JSON object a line, in place of words.
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The client id of a device.
    pub fn client_id(&self, number: u32) -> String {
        format!("{}{number}", self.prefix)
    }

    /// As many permits as may connect at once.
    pub fn permits(&self) -> usize {
        self.max_in_flight.unwrap_or(self.devices).max(1) as usize
    }

    /// Fails where an option is given that this program cannot honour.
    ///
    /// # Errors
    ///
    /// Names the option.
    pub fn refuse(&self, options: &[(&str, bool)]) -> io::Result<()> {
        match options.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(io::Error::other(format!("{option} is not possible here"))),
            None => Ok(()),
        }
    }
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Broker {
    /// The first address that the name has.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        addresses.next().ok_or_else(|| io::Error::other("this name has no address"))
    }
}

impl FromStr for Broker {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = ["mqtt://", "mqtts://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let (host, port) =
            rest.and_then(|rest| rest.rsplit_once(':')).ok_or("not mqtt://HOST:PORT")?;
        let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port })
    }
}
