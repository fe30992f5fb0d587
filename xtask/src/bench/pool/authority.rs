//! A certificate authority on P-256 for one broker on loopback.

use super::programs;
use crate::failure::{OrFail as _, Result};
use crate::sh;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longer than any benchmark, and no danger if it is left behind.
const DAYS: &str = "2";
const NEXT: &str = "run the openssl command by hand and read its message";

/// Files in PEM.
pub(super) struct Authority {
    /// What clients trust.
    pub(super) certificate: PathBuf,
    pub(super) server_certificate: PathBuf,
    pub(super) server_key: PathBuf,
}

/// A new one.
pub(super) fn make() -> Result<Authority> {
    let dir = programs::scratch("authority")?;
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority = ["req", "-x509", "-subj", "/CN=sockwarden bench", "-days", DAYS];
    openssl(&dir, &[&authority, &key[..], &["-keyout", "ca.key", "-out", "ca.pem"]].concat())?;
    let request = ["req", "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&dir, &[&request, &key[..]].concat())?;
    let names = dir.join("server.ext");
    fs::write(&names, "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        .or_fail(names.display(), NEXT)?;
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"];
    let out = ["-CAcreateserial", "-days", DAYS, "-extfile", "server.ext", "-out", "server.pem"];
    openssl(&dir, &[&sign[..], &out].concat())?;
    let file = |name: &str| dir.join(name);
    Ok(Authority {
        certificate: file("ca.pem"),
        server_certificate: file("server.pem"),
        server_key: file("server.key"),
    })
}

fn openssl(dir: &Path, args: &[&str]) -> Result {
    sh::output(Command::new("openssl").args(args).current_dir(dir), NEXT).map(drop)
}
