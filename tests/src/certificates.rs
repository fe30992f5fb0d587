//! Certificates for a broker and its clients, in files.

use crate::TempDir;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use std::fs;
use std::path::PathBuf;

/// An authority, and what it signed: `ca.pem`, and `server` and `client` as `X.pem` and `X.key`.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// All for `localhost` and 127.0.0.1.
    pub fn new() -> Self {
        let directory = TempDir::new();
        let mut ca = CertificateParams::new([]).expect("invariant: no names");
        ca.distinguished_name.push(DnType::CommonName, "authority of a test");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, key()).expect("invariant: complete");
        let write = |name: String, content: String| {
            fs::write(directory.join(&name), content).expect("it is our directory");
        };
        write("ca.pem".to_owned(), ca.pem());
        for name in ["server", "client"] {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(names).expect("invariant: valid names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = key();
            let certificate = params.signed_by(&key, &ca).expect("invariant: complete");
            write(format!("{name}.pem"), certificate.pem());
            write(format!("{name}.key"), key.serialize_pem());
        }
        Self(directory)
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A line of the broker's configuration that names one of the files.
    pub fn option(&self, option: &str, name: &str) -> String {
        format!("{option} {}", self.path(name).display())
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("invariant: the system has randomness")
}
