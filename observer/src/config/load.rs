//! EDGE: reads the config and the file of the password.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::{Complaints, Config, Credentials, source::position};
use crate::{
    clock::{self, WallClock},
    escape::visible,
};

/// Longest config, bytes. All keys with their explanation take a fiftieth of it.
const MOST: u64 = 1 << 20;

/// Longest file of a password, bytes. MQTT allows 65,535 for the password (MQTT 3.1.1 §3.1.3.5).
const MOST_PASSWORD: u64 = 64 << 10;

/// Why there is no config. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be opened or read.
    #[error(
        "the config {} cannot be read: {error}. Give another one with --config, or begin with \
         `sockwarden config example`",
        visible(&path.to_string_lossy())
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("the config {} is no regular file: give a file with --config", visible(&path.to_string_lossy()))]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// It is longer than 1 MiB.
    #[error("the config {} is longer than 1 MiB: is it the right file?", visible(&path.to_string_lossy()))]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not UTF-8.
    #[error("{}:{line}: this line is not UTF-8: save the config in UTF-8", visible(&path.to_string_lossy()))]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first such line, from 1.
        line: usize,
    },
    /// What it says is wrong.
    #[error(
        "the config has {}; correct it:\n{}",
        mistakes(complaints.count()),
        complaints.of(&visible(&path.to_string_lossy()))
    )]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        complaints: Complaints,
    },
}

/// Why there is no password. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It cannot be opened or read.
    #[error(
        "the password file {} cannot be read: {error}. It is read before privileges are dropped; \
         see password_file in [pool]",
        visible(&path.to_string_lossy())
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error(
        "the password file {} is no regular file: see password_file in [pool]",
        visible(&path.to_string_lossy())
    )]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// It is longer than 64 KiB.
    #[error(
        "the password file {} is longer than 64 KiB: is it the right file? See password_file in \
         [pool]",
        visible(&path.to_string_lossy())
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Its first line is empty.
    #[error(
        "the password file {} has an empty first line: write the password there",
        visible(&path.to_string_lossy())
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Config {
    /// Reads the config `path`, a regular file of at most 1 MiB.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the file and what to do.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let path = path.to_owned();
        let Content { bytes, mode } = match read(&path, MOST) {
            Ok(content) => content,
            Err(ReadError::Io(error)) => return Err(LoadError::Unreadable { path, error }),
            Err(ReadError::NotAFile) => return Err(LoadError::NotAFile { path }),
            Err(ReadError::TooLong) => return Err(LoadError::TooLong { path }),
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let begin = String::from_utf8_lossy(&error.as_bytes()[..valid]);
                let line = position(&begin, valid).line;
                return Err(LoadError::NotUtf8 { path, line });
            }
        };
        let now = WallClock::read().wall(clock::now());
        let config = match Self::parse_at(&text, now) {
            Ok(config) => config,
            Err(complaints) => return Err(LoadError::Wrong { path, complaints }),
        };
        if config.fleet.template.password.is_some() && is_exposed(mode) {
            warn_exposed(&path);
        }
        for (index, rule) in config.rules.iter().enumerate() {
            if rule.is_over(now) {
                warn_over(&path, index + 1);
            }
        }
        Ok(config)
    }

    /// Reads the password of `credentials`: the first line of its file, without its end; `None` if
    /// there is no file. A file that everybody may read is warned of.
    ///
    /// # Errors
    ///
    /// [`PasswordError`], which names the file and what to do.
    pub fn password(credentials: &Credentials) -> Result<Option<Bytes>, PasswordError> {
        let Some(path) = credentials.password_file.clone() else { return Ok(None) };
        let Content { bytes, mode } = match read(&path, MOST_PASSWORD) {
            Ok(content) => content,
            Err(ReadError::Io(error)) => return Err(PasswordError::Unreadable { path, error }),
            Err(ReadError::NotAFile) => return Err(PasswordError::NotAFile { path }),
            Err(ReadError::TooLong) => return Err(PasswordError::TooLong { path }),
        };
        if is_exposed(mode) {
            warn_exposed(&path);
        }
        match first_line(&bytes) {
            [] => Err(PasswordError::Empty { path }),
            line => Ok(Some(Bytes::copy_from_slice(line))),
        }
    }
}

struct Content {
    bytes: Vec<u8>,
    /// Permissions.
    mode: u32,
}

enum ReadError {
    Io(io::Error),
    NotAFile,
    TooLong,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// All of a regular file of at most `most` bytes.
fn read(path: &Path, most: u64) -> Result<Content, ReadError> {
    // Without NONBLOCK the open of a pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut bytes = Vec::new();
    // Its length may grow while it is read.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(ReadError::TooLong);
    }
    Ok(Content { bytes, mode: metadata.permissions().mode() })
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether everybody may read it.
fn is_exposed(mode: u32) -> bool {
    mode & 0o004 != 0
}

fn warn_exposed(path: &Path) {
    let path = path.to_string_lossy();
    let path = visible(&path);
    log::warn!("every user of this host may read the password in {path}: `chmod o-rwx` it");
}

fn warn_over(path: &Path, number: usize) {
    let path = path.to_string_lossy();
    let path = visible(&path);
    log::warn!(
        "rule {number} of [[rules]] in {path} has ended and ignores nothing any more: remove it, \
         or set another until"
    );
}

fn mistakes(count: usize) -> String {
    if count == 1 { "a mistake".to_owned() } else { format!("{count} mistakes") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, process};

    /// A file of its own, gone at the end.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, content: &[u8]) -> Self {
            let name = format!("sockwarden-config-{}-{name}", process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, content).expect("invariant: the directory is there");
            Self(path)
        }

        fn password(&self) -> Result<Option<Bytes>, PasswordError> {
            let password_file = Some(self.0.clone());
            Config::password(&Credentials { username: "me".into(), password_file })
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _gone = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_is_loaded_and_what_is_wrong_names_it() {
        let file = Temporary::new("right", b"[watch]\nall = true\n");
        assert!(Config::load(&file.0).expect("invariant: valid").watch.all);
        let file = Temporary::new("wrong", b"[watch]\nall = 1\nport = [0]\n");
        let error = Config::load(&file.0).expect_err("invariant: wrong").to_string();
        let path = file.0.display();
        assert!(
            error.starts_with(&format!("the config has 2 mistakes; correct it:\n{path}:2:1: ")),
            "{error}"
        );
        assert!(error.contains(&format!("\n{path}:3:9: [watch] port = 0: allowed 1")), "{error}");
    }

    #[test]
    fn what_is_no_config_is_refused() {
        let long = Temporary::new("long", &vec![b'#'; MOST as usize + 1]);
        let full = Temporary::new("full", &vec![b'#'; MOST as usize]);
        let bytes = Temporary::new("bytes", b"a = 1\n\xff\n");
        assert!(matches!(Config::load(&long.0), Err(LoadError::TooLong { .. })));
        assert_eq!(Config::load(&full.0).expect("invariant: a comment"), Config::default());
        assert!(matches!(Config::load(&bytes.0), Err(LoadError::NotUtf8 { line: 2, .. })));
        assert!(matches!(Config::load(Path::new("/")), Err(LoadError::NotAFile { .. })));
        assert!(matches!(Config::load(Path::new("/dev/zero")), Err(LoadError::NotAFile { .. })));
        let missing = Config::load(Path::new("/nowhere\n/c")).expect_err("invariant: not there");
        assert!(
            missing.to_string().starts_with("the config /nowhere\\u{a}/c cannot be read"),
            "{missing}"
        );
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("sockwarden-config-{}-pipe", process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .expect("invariant: the directory is there");
        let loaded = Config::load(&path);
        fs::remove_file(&path).expect("invariant: it was made");
        assert!(matches!(loaded, Err(LoadError::NotAFile { .. })), "{loaded:?}");
    }

    #[test]
    fn a_password_is_the_first_line() {
        for (name, content, password) in [
            ("plain", &b"hunter2"[..], Some(&b"hunter2"[..])),
            ("line", b"hunter2\n", Some(b"hunter2")),
            ("lines", b"hunter2\r\nsecond\n", Some(b"hunter2")),
            ("blanks", b" a b \n", Some(b" a b ")),
            ("bytes", b"\xff\0\n", Some(b"\xff\0")),
            ("empty", b"", None),
            ("empty-line", b"\nhunter2\n", None),
        ] {
            let file = Temporary::new(&format!("password-{name}"), content);
            match (file.password(), password) {
                (Ok(Some(found)), Some(password)) => assert_eq!(found, password, "{name}"),
                (Err(PasswordError::Empty { .. }), None) => {}
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
        let none = Credentials { username: "me".into(), password_file: None };
        assert!(matches!(Config::password(&none), Ok(None)));
    }

    #[test]
    fn a_password_file_is_bounded_and_a_file() {
        let full = Temporary::new("password-full", &vec![b'x'; MOST_PASSWORD as usize]);
        let long = Temporary::new("password-long", &vec![b'x'; MOST_PASSWORD as usize + 1]);
        assert!(matches!(full.password(), Ok(Some(_))));
        assert!(matches!(long.password(), Err(PasswordError::TooLong { .. })));
        let of = |path: &str| {
            Config::password(&Credentials {
                username: "me".into(),
                password_file: Some(path.into()),
            })
        };
        assert!(matches!(of("/"), Err(PasswordError::NotAFile { .. })));
        assert!(matches!(of("/nowhere"), Err(PasswordError::Unreadable { .. })));
    }

    #[test]
    fn what_everybody_may_read_is_exposed() {
        for (mode, exposed) in [(0o100_600, false), (0o100_640, false), (0o100_644, true)] {
            assert_eq!(is_exposed(mode), exposed, "{mode:o}");
        }
    }
}
