//! Certificates for tests, written to files of their own.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

/// A directory that goes away with its owner.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pool-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("invariant: the temporary directory is writable");
        Self(path)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("invariant: it is our directory");
        path
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// An authority, and what it signed: for `localhost` and 127.0.0.1, expired, and for a client.
///
/// Files `ca.pem`, and `X.pem` with `X.key` for `server`, `expired` and `client`.
pub(super) struct Certificates {
    pub(super) directory: Directory,
}

impl Certificates {
    pub(super) fn new() -> Self {
        Self::signed_by("test authority")
    }

    pub(super) fn signed_by(authority: &str) -> Self {
        let directory = Directory::new();
        let mut ca = CertificateParams::new([]).expect("invariant: no names");
        ca.distinguished_name.push(DnType::CommonName, authority);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, key()).expect("invariant: complete");
        directory.write("ca.pem", ca.pem());
        for name in ["server", "expired", "client"] {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(names).expect("invariant: valid names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            if name == "expired" {
                params.not_after = date_time_ymd(2_001, 1, 1);
            }
            let key = key();
            let certificate = params.signed_by(&key, &ca).expect("invariant: complete");
            directory.write(&format!("{name}.pem"), certificate.pem());
            directory.write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { directory }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// A server with one of the certificates, which demands one of the client if told so.
    pub(super) fn acceptor(&self, name: &str, demands_client: bool) -> TlsAcceptor {
        self.acceptor_of(&TLS13, name, demands_client)
    }

    pub(super) fn acceptor_of(
        &self,
        version: &'static SupportedProtocolVersion,
        name: &str,
        demands_client: bool,
    ) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("invariant: ring has them");
        let config = match demands_client {
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(read(&self.path("ca.pem"))).expect("invariant: an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .expect("invariant: it has a root");
                config.with_client_cert_verifier(verifier)
            }
            false => config.with_no_client_auth(),
        };
        let chain = vec![read(&self.path(&format!("{name}.pem")))];
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")))
            .expect("invariant: a key");
        let config = config.with_single_cert(chain, key).expect("invariant: they fit");
        TlsAcceptor::from(Arc::new(config))
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("invariant: the system has randomness")
}

fn read(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("invariant: a certificate")
}
