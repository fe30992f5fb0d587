//! Where the broker is, and how to reach it.

use crate::error::CallerError;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio_rustls::rustls::pki_types::ServerName;

/// The address of a broker: scheme, host, port, and for WebSocket a path.
///
/// | scheme | means | default port |
/// |---|---|---|
/// | `mqtt`, `tcp` | MQTT over TCP | 1883 |
/// | `mqtts`, `ssl`, `tls` | MQTT over TLS | 8883 |
/// | `ws` | MQTT over WebSocket, path `/mqtt` unless given | 80 |
/// | `wss` | MQTT over WebSocket over TLS, path `/mqtt` unless given | 443 |
///
/// An IPv6 address stands in brackets. User and password do not belong here: logs and process
/// lists show addresses.
///
/// # Examples
///
/// ```
/// use pool::{Broker, TlsOptions};
///
/// let broker = Broker::parse("mqtts://broker.example")?
///     .tls(TlsOptions::new().ca_file("/etc/sockwarden/ca.pem"));
/// assert_eq!(broker.to_string(), "mqtts://broker.example:8883");
/// # Ok::<(), pool::CallerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub(crate) scheme: Scheme,
    /// Without the brackets of an IPv6 address; lower case.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Begins with `/` for WebSocket, and is empty otherwise.
    pub(crate) path: String,
    pub(crate) tls: TlsOptions,
}

/// What is between TCP and MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Tcp,
    Tls,
    WebSocket,
    SecureWebSocket,
}

/// Whom to trust and who we are, for a broker behind TLS. Has no effect on `mqtt` and `ws`.
///
/// The files are read and checked once, when the pool is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    pub(crate) ca_file: Option<PathBuf>,
    /// Certificate chain and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Broker {
    /// Reads an address such as `mqtt://broker.example:1883`. Asks no DNS.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`], which names the part that is wrong and what may be there.
    pub fn parse(url: &str) -> Result<Self, CallerError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid("broker scheme", shown(url), SCHEMES));
        };
        let scheme = Scheme::parse(scheme)
            .ok_or_else(|| invalid("broker scheme", format!("{scheme:?}"), SCHEMES))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            let allowed = "a URL without user and password: they belong to the credentials of \
                           the pool or of the device";
            return Err(invalid("broker URL", shown(url), allowed));
        }
        let (host, port) = split_port(authority)?;
        let port = port.map_or(Ok(scheme.default_port()), parse_port)?;
        Ok(Self {
            scheme,
            host: parse_host(host)?,
            port,
            path: parse_path(scheme, path)?,
            tls: TlsOptions::default(),
        })
    }

    /// Whom to trust and who we are; without this, the certificates that the system trusts.
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// The same at `host` or `host:port`; without a port, at ours.
    pub(crate) fn moved_to(&self, server: &str) -> Result<Self, CallerError> {
        if let Some(character) = server.chars().find(|it| "/?#@".contains(*it)) {
            let allowed = "host or host:port";
            return Err(invalid("server reference", format!("a {character:?} in it"), allowed));
        }
        let (host, port) = split_port(server)?;
        let port = port.map_or(Ok(self.port), parse_port)?;
        Ok(Self { host: parse_host(host)?, port, ..self.clone() })
    }

    /// The name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// 1 to 65,535.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Broker {
    type Err = CallerError;

    fn from_str(url: &str) -> Result<Self, CallerError> {
        Self::parse(url)
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, port, path) = (self.scheme.name(), self.port, &self.path);
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{port}{path}", self.host),
            false => write!(f, "{scheme}://{}:{port}{path}", self.host),
        }
    }
}

impl TlsOptions {
    /// The system's certificates, no certificate of ours, the name of the broker's address.
    pub fn new() -> Self {
        Self::default()
    }

    /// A PEM file with the authorities to trust, instead of those of the system.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ca_file = Some(path.as_ref().to_owned());
        self
    }

    /// PEM files with our certificate chain, our own certificate first, and with its key
    /// (PKCS #8, PKCS #1 or SEC1, not encrypted), for a broker that demands them.
    pub fn client_certificate(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity = Some((chain.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// The name that the broker's certificate must carry, where it is not the host of the address.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when it is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, CallerError> {
        self.server_name = Some(parse_server_name("server name", name)?);
        Ok(self)
    }

    /// Protocols to offer by ALPN (RFC 7301), the preferred one first; by default none.
    /// AWS IoT Core wants `x-amzn-mqtt-ca` on port 443.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when one is empty or longer than 255 bytes.
    pub fn alpn<'a>(
        mut self,
        protocols: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, CallerError> {
        self.alpn = protocols.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        match self.alpn.iter().find(|name| !(1..=255).contains(&name.len())) {
            Some(name) => {
                let given = format!("a name of {} bytes", name.len());
                Err(invalid("ALPN protocol", given, "1 to 255 bytes (RFC 7301)"))
            }
            None => Ok(self),
        }
    }
}

impl Scheme {
    fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => Some(Self::Tcp),
            "mqtts" | "ssl" | "tls" => Some(Self::Tls),
            "ws" => Some(Self::WebSocket),
            "wss" => Some(Self::SecureWebSocket),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
        }
    }

    /// As IANA registered them for mqtt, secure-mqtt, http and https.
    fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1_883,
            Self::Tls => 8_883,
            Self::WebSocket => 80,
            Self::SecureWebSocket => 443,
        }
    }

    pub(crate) fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::SecureWebSocket)
    }

    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::SecureWebSocket)
    }
}

/// What a certificate is checked against.
pub(crate) fn parse_server_name(
    field: &'static str,
    name: &str,
) -> Result<ServerName<'static>, CallerError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| invalid(field, format!("{name:?}"), "a DNS name or an IP address"))
}

const SCHEMES: &str = "mqtt://, mqtts://, ws:// or wss:// before the host (tcp, ssl and tls are \
                       other names for the first two)";

fn split_port(authority: &str) -> Result<(&str, Option<&str>), CallerError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let allowed = "an IPv6 address in brackets, then perhaps a colon and a port";
        let complain = || invalid("broker host", format!("{authority:?}"), allowed);
        let (address, after) = rest.split_once(']').ok_or_else(complain)?;
        // Brackets are for nothing else, and with them away nobody could tell any more.
        address.parse::<Ipv6Addr>().map_err(|_| complain())?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if after.is_empty() => Ok((address, None)),
            None => Err(complain()),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            let allowed = "one colon at most: an IPv6 address stands in brackets";
            Err(invalid("broker host", format!("{authority:?}"), allowed))
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_port(port: &str) -> Result<u16, CallerError> {
    // `parse` alone would take "+1883".
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(number) if digits && number != 0 => Ok(number),
        _ => Err(invalid("broker port", format!("{port:?}"), "1 to 65,535")),
    }
}

fn parse_host(host: &str) -> Result<String, CallerError> {
    if host.is_empty() {
        return Err(invalid("broker host", "nothing".to_owned(), "a name or an IP address"));
    }
    if host.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv4Addr>().is_ok() {
        return Ok(host.to_ascii_lowercase());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.bytes().all(plain) || host.len() > 253 {
        let allowed = "at most 253 letters, digits, dots, hyphens and underscores (a name with \
                       others in its xn-- form)";
        return Err(invalid("broker host", format!("{host:?}"), allowed));
    }
    Ok(host.to_ascii_lowercase())
}

fn parse_path(scheme: Scheme, path: &str) -> Result<String, CallerError> {
    if !scheme.is_websocket() {
        return match path {
            "" | "/" => Ok(String::new()),
            _ => {
                let allowed = "no path: only ws:// and wss:// have one";
                Err(invalid("broker path", format!("{path:?}"), allowed))
            }
        };
    }
    if path.contains('#') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let allowed = "printable ASCII without spaces and '#' (others as %XX)";
        return Err(invalid("broker path", format!("{path:?}"), allowed));
    }
    Ok(match path {
        // No standard names a path; this is what the common brokers listen on.
        "" | "/" => "/mqtt".to_owned(),
        _ if path.starts_with('?') => format!("/mqtt{path}"),
        _ => path.to_owned(),
    })
}

/// The URL as it may be shown: without what stands before an `@`.
fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.find("://").map_or("", |end| &before[..end + 3]);
            format!("\"{scheme}…@{}\"", after.escape_debug())
        }
        None => format!("{url:?}"),
    }
}

fn invalid(field: &'static str, given: String, allowed: &str) -> CallerError {
    CallerError::InvalidField { field, given, allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_moved(server: &str, expected: Option<&str>) {
        let broker = Broker::parse("wss://a.example:8084/mqtt").expect("invariant: valid");
        let moved = broker.moved_to(server).ok().map(|broker| broker.to_string());
        assert_eq!(moved.as_deref(), expected, "{server}");
    }

    #[test]
    fn a_server_reference_moves_host_and_perhaps_port() {
        check_moved("b.example", Some("wss://b.example:8084/mqtt"));
        check_moved("b.example:1", Some("wss://b.example:1/mqtt"));
        check_moved("[::1]:1", Some("wss://[::1]:1/mqtt"));
        for wrong in ["", "b:0", "b/c", "user@b", "b:port"] {
            check_moved(wrong, None);
        }
    }
    use proptest::prelude::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let broker = Broker::parse(url).expect("invariant: a valid URL");
        assert_eq!(broker.to_string(), expected, "{url}");
        assert_eq!(Broker::parse(&broker.to_string()), Ok(broker), "{url} comes back");
    }

    #[track_caller]
    fn check_refused(url: &str, text: &str) {
        let error = Broker::parse(url).expect_err("invariant: not valid").to_string();
        assert!(error.contains(text), "{url}: {error}");
    }

    #[test]
    fn each_scheme_has_its_default_port_and_path() {
        check("mqtt://a", "mqtt://a:1883");
        check("tcp://a", "mqtt://a:1883");
        check("MQTT://A.Example/", "mqtt://a.example:1883");
        for scheme in ["mqtts", "ssl", "tls"] {
            check(&format!("{scheme}://a"), "mqtts://a:8883");
        }
        check("ws://a", "ws://a:80/mqtt");
        check("wss://a/", "wss://a:443/mqtt");
        check("wss://a?key=1", "wss://a:443/mqtt?key=1");
        check("wss://a:8443/other?key=1", "wss://a:8443/other?key=1");
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        check("mqtt://[::1]", "mqtt://[::1]:1883");
        check("wss://[2001:DB8::1]:8443/x", "wss://[2001:db8::1]:8443/x");
        check("mqtt://127.0.0.1:18830", "mqtt://127.0.0.1:18830");
        check_refused("mqtt://::1", "stands in brackets");
        check_refused("mqtt://[::1", "invalid broker host");
        check_refused("mqtt://[a.example]", "an IPv6 address in brackets");
        check_refused("mqtt://[::1]1883", "an IPv6 address in brackets");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        check_refused("broker.example:1883", "invalid broker scheme");
        check_refused("http://a", "mqtt://, mqtts://, ws:// or wss://");
        check_refused("mqtt://", "invalid broker host: given nothing");
        check_refused("mqtt://:1883", "invalid broker host: given nothing");
        check_refused("mqtt://a:0", "invalid broker port: given \"0\", allowed: 1 to 65,535");
        check_refused("mqtt://a:65536", "invalid broker port");
        check_refused("mqtt://a:+1", "invalid broker port");
        check_refused("mqtt://a:", "invalid broker port: given \"\"");
        check_refused("mqtt://a b", "invalid broker host");
        check_refused("mqtt://bücher.example", "xn--");
        check_refused("mqtt://a/topic", "only ws:// and wss:// have one");
        check_refused("ws://a/x y", "invalid broker path");
        check_refused("ws://a/x#y", "invalid broker path");
    }

    #[test]
    fn a_password_is_refused_and_never_shown() {
        for url in ["mqtt://user:secret@a", "secret@a", "http://x:secret@a", "mqtt://a@secret@a"] {
            let error = Broker::parse(url).expect_err("invariant: not valid").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        check_refused("mqtt://user:secret@a", "credentials of the pool or of the device");
    }

    #[test]
    fn tls_options_are_checked_when_given() {
        assert!(TlsOptions::new().server_name("a b").is_err());
        assert!(TlsOptions::new().server_name("broker.example").is_ok());
        assert!(TlsOptions::new().server_name("::1").is_ok());
        assert!(TlsOptions::new().alpn([""]).is_err());
        assert!(TlsOptions::new().alpn(["mqtt"]).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_taken_comes_back(url in "(mqtt|wss?|)(://)?\\PC{0,24}") {
            if let Ok(broker) = Broker::parse(&url) {
                prop_assert_eq!(Broker::parse(&broker.to_string()), Ok(broker));
            }
        }
    }
}
