//! EDGE: what the verbs that ask the daemon have in common.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use clap::Args;
use serde::{Serialize, de::DeserializeOwned};

use super::{Failure, exit};
use crate::{
    api::client::{Address, Blame, Client, ClientError},
    sinks::Palette,
};

/// Where the daemon is.
#[derive(Debug, Args)]
pub(super) struct Socket {
    /// The daemon's Unix socket.
    #[arg(long, value_name = "PATH", default_value = "/run/sockwarden/api.sock")]
    socket: PathBuf,
}

/// Where the daemon is, for verbs that only read.
#[derive(Debug, Args)]
pub(super) struct Place {
    #[command(flatten)]
    socket: Socket,
    /// Ask by TCP instead: `http://127.0.0.1:9641`.
    #[arg(long, value_name = "URL", value_parser = url, conflicts_with = "socket")]
    url: Option<SocketAddr>,
}

impl Socket {
    pub(super) fn client(&self) -> Client {
        Client::new(Address::Unix(self.socket.clone()))
    }
}

impl Place {
    pub(super) fn client(&self) -> Client {
        match self.url {
            Some(address) => Client::new(Address::Tcp(address)),
            None => self.socket.client(),
        }
    }

    /// The client for a verb that changes something, which only the socket takes.
    pub(super) fn writing_client(&self) -> Result<Client, Failure> {
        match self.url {
            Some(_) => {
                let message = "--url only reads: leave it out, and use --socket".to_owned();
                Err(Failure { code: exit::USAGE, message })
            }
            None => Ok(self.socket.client()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error.blame() {
            Blame::Usage => exit::USAGE,
            Blame::Unable => exit::UNABLE,
            Blame::Permission => exit::PERMISSION,
        };
        Self { code, message: error.to_string() }
    }
}

/// Runs a verb on a small runtime of its own.
pub(super) fn run<T>(verb: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::unable)?.block_on(verb)
}

/// All rows of a list, page by page. `split` gives the rows of a page, and what comes after it.
pub(super) async fn pages<Page: DeserializeOwned, Row>(
    client: &Client,
    path: &str,
    split: impl Fn(Page) -> (Vec<Row>, Option<String>),
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let mark = if path.contains('?') { '&' } else { '?' };
        let from = after.map(|after| format!("{mark}after={after}")).unwrap_or_default();
        let (page, next) = split(client.get(&format!("{path}{from}")).await?);
        rows.extend(page);
        after = next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}

/// Where a verb writes; who reads may go at any time.
#[derive(Debug)]
pub(super) struct Out {
    /// Colours of the terminal, or none.
    pub(super) palette: Palette,
}

impl Out {
    pub(super) fn new() -> Self {
        Self { palette: Palette::for_stream(&io::stdout()) }
    }

    /// Writes a line; false when nobody reads any more.
    pub(super) fn line(&self, line: &str) -> Result<bool, Failure> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::unable(format!("cannot write the output: {error}"))),
        }
    }

    /// Writes lines, as far as somebody reads.
    pub(super) fn lines(&self, lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        for line in lines {
            if !self.line(&line)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes `value` as one line of JSON with its type in front.
    pub(super) fn json(&self, kind: &str, value: &impl Serialize) -> Result<bool, Failure> {
        self.line(&typed(kind, value)?)
    }
}

/// `value` as one line of JSON with its type in front.
pub(super) fn typed(kind: &str, value: &impl Serialize) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Typed<'a, T> {
        r#type: &'a str,
        #[serde(flatten)]
        value: &'a T,
    }
    crate::api::to_json(&Typed { r#type: kind, value }).map_err(Failure::unable)
}

/// Parses `http://ADDRESS:PORT`.
fn url(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let address = address.map(|rest| rest.replacen("localhost:", "127.0.0.1:", 1));
    address
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| format!("`{text}` is no address of a daemon; write http://127.0.0.1:9641"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_daemons() {
        let cases = [
            ("http://127.0.0.1:9641", Some("127.0.0.1:9641")),
            ("http://127.0.0.1:9641/", Some("127.0.0.1:9641")),
            ("http://localhost:1", Some("127.0.0.1:1")),
            ("http://[::1]:9641", Some("[::1]:9641")),
            ("https://127.0.0.1:9641", None),
            ("127.0.0.1:9641", None),
            ("http://127.0.0.1", None),
            ("http://example.org:80", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(url(text).ok(), expected.and_then(|it| it.parse().ok()), "{text}");
        }
    }
}
