//! PURE. From the config to the pool's builder.

use bytes::Bytes;

use super::{Pool, Tls};

/// A builder with all that `config` says; `password` is what [`Config::password`](super::Config::password)
/// read.
///
/// # Errors
///
/// A value that the pool does not take. A config that was parsed has none, but a password may be too
/// long.
pub fn pool_builder(config: &Pool, password: Option<Bytes>) -> Result<pool::Builder, pool::Error> {
    let broker = config.broker.clone().tls(tls(&config.tls)?);
    let mut builder = pool::Pool::builder(broker)
        .version(config.version)
        .limits(config.limits.clone())
        .timeouts(config.timeouts)
        .buffers(config.buffers)
        .keep_alive(config.keep_alive)
        .clean_start(config.clean_start)
        .session_expiry(config.session_expiry)
        .sources(config.sources.iter().copied())
        .redirects(&config.redirects);
    if let Some(credentials) = &config.credentials {
        builder = builder.credentials(&credentials.username, password.unwrap_or_default())?;
    }
    if let Some(headroom) = config.descriptor_headroom {
        builder = builder.descriptor_headroom(headroom);
    }
    Ok(builder)
}

fn tls(config: &Tls) -> Result<pool::TlsOptions, pool::CallerError> {
    let mut options = pool::TlsOptions::new().alpn(config.alpn.iter().map(String::as_str))?;
    if let Some(path) = &config.ca_file {
        options = options.ca_file(path);
    }
    if let (Some(chain), Some(key)) = (&config.client_certificate, &config.client_key) {
        options = options.client_certificate(chain, key);
    }
    match &config.server_name {
        Some(name) => options.server_name(name),
        None => Ok(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn pool(text: &str) -> Pool {
        let config = Config::parse(&format!("[pool]\n{text}")).expect("invariant: valid");
        config.pool.expect("invariant: there is a broker")
    }

    #[test]
    fn everything_reaches_the_builder() {
        let config = pool(
            "broker = \"wss://a\"\nversion = \"5\"\nkeep_alive = \"7s\"\nclean_start = true\n\
             session_expiry = \"11s\"\nusername = \"me\"\nsources = [\"127.0.0.9\"]\n\
             redirects = [\"b.example\"]\ndescriptor_headroom = 13\n\
             tls = { ca_file = \"/ca\", client_certificate = \"/chain\", client_key = \"/key\", \
             server_name = \"c.example\", alpn = [\"mqtt\"] }\n\
             limits.max_in_flight = 17\ntimeouts.connect = \"19s\"\nbuffers.outbox = 23\n",
        );
        let builder = pool_builder(&config, Some(Bytes::from_static(b"hunter2")));
        let shown = format!("{:?}", builder.expect("invariant: valid"));
        for part in [
            "WebSocket",
            "V5",
            "keep_alive: 7s",
            "clean_start: true",
            "session_expiry: 11s",
            "\"me\"",
            "127.0.0.9",
            "b.example",
            "Some(13)",
            "/ca",
            "/chain",
            "/key",
            "c.example",
            "max_in_flight: 17",
            "connect: 19s",
            "outbox: 23",
            "[109, 113, 116, 116]",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn a_password_that_mqtt_cannot_carry_is_refused() {
        let config = pool("broker = \"mqtt://a\"\nusername = \"me\"");
        assert!(pool_builder(&config, Some(vec![b'x'; 65_535].into())).is_ok());
        assert!(pool_builder(&config, Some(vec![b'x'; 65_536].into())).is_err());
        assert!(pool_builder(&config, None).is_ok());
    }
}
