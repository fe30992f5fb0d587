//! TLS by rustls: one configuration for the whole pool, and one handshake.

use super::cause_of;
use super::tickets::Tickets;
use crate::broker::TlsOptions;
use crate::error::{Cause, OperatorError};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, Error, RootCertStore};

/// What one broker needs for a handshake. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct TlsTarget {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsTarget {
    /// Reads and checks all files, once: every session shares the result, and its tickets for
    /// short handshakes (RFC 8446 §2.2).
    ///
    /// # Errors
    ///
    /// [`OperatorError::Certificate`] with the file, what is wrong with it, and what to do.
    pub(super) fn load(
        options: &TlsOptions,
        host: ServerName<'static>,
    ) -> Result<Self, OperatorError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("invariant: ring has suites for TLS 1.2 and 1.3")
            .with_root_certificates(match &options.ca_file {
                Some(file) => read_authorities(file)?,
                None => read_system_authorities()?,
            });
        let mut config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((chain_file, key_file)) => {
                let (chain, key) = (read_certificates(chain_file)?, read_key(key_file)?);
                builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                    Error::InconsistentKeys(_) => {
                        let chain_file = chain_file.display();
                        let problem = format!("this key does not belong to {chain_file}");
                        bad(key_file, problem)
                    }
                    Error::InvalidCertificate(_) => bad(chain_file, error.to_string()),
                    _ => bad(key_file, error.to_string()),
                })?
            }
        };
        config.resumption = Resumption::store(Arc::new(Tickets::default()));
        config.alpn_protocols.clone_from(&options.alpn);
        let name = options.server_name.clone().unwrap_or(host);
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same for another server.
    pub(super) fn named(&self, name: ServerName<'static>) -> Self {
        Self { config: Arc::clone(&self.config), name }
    }

    /// The handshake of TLS.
    ///
    /// # Errors
    ///
    /// [`Cause::Tls`], or whatever ended the connection. A broker that misses a client certificate
    /// says so only after a handshake of TLS 1.3: the first read fails with it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the stream.
    pub(super) async fn handshake<S>(&self, stream: S) -> Result<TlsStream<S>, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let bound = |session: &mut ClientConnection| session.set_buffer_limit(Some(BUFFER_BYTES));
        connector.connect_with(self.name.clone(), stream, bound).await.map_err(|error| match error
            .kind()
        {
            ErrorKind::UnexpectedEof => Cause::Tls(
                "the broker closed within the handshake: does it speak TLS on this port?"
                    .to_owned(),
            ),
            _ => cause_of(&error),
        })
    }
}

/// How much a slow peer makes us hold, instead of the 64 KiB of rustls: one full record.
const BUFFER_BYTES: usize = 16 << 10;

fn read_authorities(file: &Path) -> Result<RootCertStore, OperatorError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| bad(file, format!("not the certificate of an authority: {error}")))?;
    }
    Ok(roots)
}

fn read_system_authorities() -> Result<RootCertStore, OperatorError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some that no modern library can read; what is usable is enough.
    let (added, _unusable) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    let reason = if errors.is_empty() { "there is none".to_owned() } else { errors.join("; ") };
    let remedy = "install ca-certificates, or give the broker's CA file";
    Err(OperatorError::Certificate {
        file: "the certificates that this system trusts".to_owned(),
        problem: format!("{reason}: {remedy}"),
    })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, OperatorError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(file, describe(error)))?;
    if certificates.is_empty() {
        let problem = "no certificate in it: PEM with BEGIN CERTIFICATE is expected";
        return Err(bad(file, problem.to_owned()));
    }
    Ok(certificates)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, OperatorError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let problem = match error {
            pem::Error::NoItemsFound => "no private key in it that can be used: PEM with BEGIN \
                                         PRIVATE KEY is expected, and not encrypted (openssl pkey \
                                         takes the encryption away)"
                .to_owned(),
            error => describe(error),
        };
        bad(file, problem)
    })
}

fn describe(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        error => format!("no valid PEM: {error}"),
    }
}

fn bad(file: &Path, problem: String) -> OperatorError {
    OperatorError::Certificate { file: file.display().to_string(), problem }
}

#[cfg(test)]
mod tests {
    use super::super::certificates::Certificates;
    use super::*;
    use futures_util::future::join_all;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::HandshakeKind;
    use tokio_rustls::rustls::version::{TLS12, TLS13};

    fn localhost() -> ServerName<'static> {
        ServerName::try_from("localhost").expect("invariant: valid")
    }

    fn load(options: &TlsOptions) -> TlsTarget {
        TlsTarget::load(options, localhost()).expect("invariant: the files are good")
    }

    /// One handshake, and then one byte from the server, which a refusal of the client replaces.
    async fn outcome(
        target: &TlsTarget,
        certificates: &Certificates,
        server: &str,
        demands: bool,
    ) -> Result<u8, Cause> {
        let (ours, theirs) = duplex(4_096);
        let acceptor = certificates.acceptor(server, demands);
        let serve = async move {
            let mut stream = acceptor.accept(theirs).await?;
            stream.write_all(b"x").await?;
            stream.flush().await
        };
        let connect = async move {
            let mut stream = target.handshake(ours).await?;
            stream.read_u8().await.map_err(|error| cause_of(&error))
        };
        let (outcome, _served) = tokio::join!(connect, serve);
        outcome
    }

    #[track_caller]
    fn check_named(outcome: Result<u8, Cause>, text: &str) {
        let cause = outcome.expect_err("invariant: it has to fail");
        assert!(matches!(&cause, Cause::Tls(words) if words.contains(text)), "{cause}");
    }

    #[tokio::test]
    async fn a_broker_of_a_trusted_authority_is_taken_by_name_and_by_address() {
        let certificates = Certificates::new();
        let options = TlsOptions::new().ca_file(certificates.path("ca.pem"));
        assert_eq!(outcome(&load(&options), &certificates, "server", false).await, Ok(b'x'));
        let ip = ServerName::try_from("127.0.0.1").expect("invariant: valid");
        let target = TlsTarget::load(&options, ip).expect("invariant: the files are good");
        assert_eq!(outcome(&target, &certificates, "server", false).await, Ok(b'x'));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_broker_is_named_with_a_remedy() {
        let certificates = Certificates::new();
        let options = TlsOptions::new().ca_file(certificates.path("ca.pem"));
        let good = load(&options);
        // A stranger, and one who uses the name of the authority with another key.
        for name in ["another authority", "test authority"] {
            let stranger = Certificates::signed_by(name);
            let strange = load(&TlsOptions::new().ca_file(stranger.path("ca.pem")));
            check_named(
                outcome(&strange, &certificates, "server", false).await,
                "give the broker's CA file",
            );
        }
        check_named(outcome(&good, &certificates, "expired", false).await, "renew");
        let other = options.server_name("broker.example").expect("invariant: valid");
        check_named(outcome(&load(&other), &certificates, "server", false).await, "localhost");
    }

    #[tokio::test]
    async fn a_client_certificate_is_shown_to_a_broker_that_demands_one() {
        let certificates = Certificates::new();
        let options = TlsOptions::new().ca_file(certificates.path("ca.pem"));
        check_named(
            outcome(&load(&options), &certificates, "server", true).await,
            "demands a client certificate",
        );
        let chain = certificates.path("client.pem");
        let options = options.client_certificate(chain, certificates.path("client.key"));
        assert_eq!(outcome(&load(&options), &certificates, "server", true).await, Ok(b'x'));
        let stranger = Certificates::new();
        let options = TlsOptions::new()
            .ca_file(certificates.path("ca.pem"))
            .client_certificate(stranger.path("client.pem"), stranger.path("client.key"));
        check_named(
            outcome(&load(&options), &certificates, "server", true).await,
            "does not accept our client certificate",
        );
    }

    #[tokio::test]
    async fn a_broker_without_tls_is_named() {
        let certificates = Certificates::new();
        let target = load(&TlsOptions::new().ca_file(certificates.path("ca.pem")));
        for answer in [&b"\x20\x02\x00\x00 this is not TLS"[..], b""] {
            let (ours, mut theirs) = duplex(4_096);
            theirs.write_all(answer).await.expect("invariant: there is room");
            theirs.shutdown().await.expect("invariant: open");
            let cause = target.handshake(ours).await.map(drop).expect_err("invariant: no TLS");
            assert!(cause.to_string().contains("speak TLS on this port"), "{cause}");
        }
    }

    /// So many handshakes at once, and how many of them were short.
    async fn count_short(target: &TlsTarget, acceptor: &TlsAcceptor, times: usize) -> usize {
        let one = async || {
            let (ours, theirs) = duplex(4_096);
            let serve = async {
                let mut stream = acceptor.accept(theirs).await.expect("invariant: it fits");
                stream.write_all(b"x").await.expect("invariant: open");
                stream.flush().await.expect("invariant: open");
                stream
            };
            let connect = async {
                let mut stream = target.handshake(ours).await.expect("invariant: it fits");
                stream.read_u8().await.expect("invariant: one byte comes");
                stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
            };
            let (short, _served) = tokio::join!(connect, serve);
            short
        };
        let all = join_all((0..times).map(|_| one())).await;
        all.into_iter().filter(|short| *short).count()
    }

    #[tokio::test]
    async fn a_second_storm_has_short_handshakes_only() {
        let certificates = Certificates::new();
        for version in [&TLS12, &TLS13] {
            let target = load(&TlsOptions::new().ca_file(certificates.path("ca.pem")));
            let acceptor = certificates.acceptor_of(version, "server", false);
            assert_eq!(count_short(&target, &acceptor, 24).await, 0, "{version:?}");
            assert_eq!(count_short(&target, &acceptor, 24).await, 24, "{version:?}");
        }
    }

    #[track_caller]
    fn check_files(options: TlsOptions, file: &str, text: &str) {
        let error = TlsTarget::load(&options, localhost()).expect_err("invariant: a bad file");
        let words = error.to_string();
        assert!(words.contains(file) && words.contains(text), "{words}");
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_a_remedy() {
        let certificates = Certificates::new();
        let path = |name| certificates.path(name);
        let ca = |name| TlsOptions::new().ca_file(path(name));
        certificates.directory.write("empty.pem", "");
        certificates.directory.write("garbage.pem", "-----BEGIN CERTIFICATE-----\n%%%\n");
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        certificates.directory.write("junk.pem", junk);
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        certificates.directory.write("locked.key", locked);
        check_files(ca("missing.pem"), "missing.pem", "cannot be read: No such file");
        check_files(ca("empty.pem"), "empty.pem", "no certificate in it");
        check_files(ca("server.key"), "server.key", "no certificate in it");
        check_files(ca("garbage.pem"), "garbage.pem", "no valid PEM");
        check_files(ca("junk.pem"), "junk.pem", "not the certificate of an authority");
        let with = |chain, key| ca("ca.pem").client_certificate(path(chain), path(key));
        check_files(with("client.pem", "server.key"), "server.key", "does not belong to");
        check_files(with("client.pem", "client.pem"), "client.pem", "no private key");
        check_files(with("client.pem", "locked.key"), "locked.key", "openssl pkey");
        check_files(with("client.key", "client.key"), "client.key", "no certificate in it");
    }

    #[test]
    fn without_a_file_the_system_says_whom_to_trust() {
        match TlsTarget::load(&TlsOptions::new(), localhost()) {
            Ok(_) => {}
            // A container without ca-certificates.
            Err(error) => assert!(error.to_string().contains("install ca-certificates"), "{error}"),
        }
    }
}
