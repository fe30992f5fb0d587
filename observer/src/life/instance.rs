//! EDGE: only one daemon at a time.
//!
//! A lock on `sockwarden.lock` decides, and not that the file is there: the kernel takes the lock
//! from a process that dies in whatever way. The file is never removed, because a lock on a removed
//! file would guard nothing. What stands in it is only there to name the holder.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    io::Errno,
};

use super::privileges::User;

/// Name of the lock in the runtime directory.
pub const LOCK_FILE: &str = "sockwarden.lock";

/// How often is tried again while the holder has not written its number yet.
const TRIES: u32 = 50;

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The right to be the daemon of this host. It ends when this is dropped, or the process dies.
#[derive(Debug)]
pub struct Instance {
    lock: File,
    directory: PathBuf,
}

/// Why this is not the daemon.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The operator: one is enough.
    #[error(
        "sockwarden already runs as process {pid} ({path} is locked). Ask it (`sockwarden check`), \
         end it first (`systemctl stop sockwarden`, or `kill {pid}`), or give this one another \
         `privileges.runtime_directory`",
        path = path.display()
    )]
    Busy {
        /// Who it is.
        pid: u32,
        /// The lock.
        path: PathBuf,
    },
    /// The operator: somebody holds the lock and does not say who.
    #[error(
        "{path} is locked by a process that did not write its number into it. Find it with `fuser \
         {path}` and end it",
        path = path.display()
    )]
    Nameless {
        /// The lock.
        path: PathBuf,
    },
    /// The operator: the path is not a plain file, so that nobody can make us write elsewhere.
    #[error("{path} is no plain file of one name. Remove it and start again", path = path.display())]
    NoPlainFile {
        /// The lock.
        path: PathBuf,
    },
    /// The operator: the directory has to be there and ours.
    #[error(
        "{path} cannot be locked: {error}. Make its directory for the user of the daemon \
         (`systemd-tmpfiles --create sockwarden.conf`), or start sockwarden as that user",
        path = path.display()
    )]
    Unusable {
        /// The lock.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Instance {
    /// Becomes the daemon of `directory`, which is made if it is not there (0755, so that the file
    /// can be read by `sockwarden check` of any user). Waits a second at most.
    ///
    /// # Errors
    ///
    /// [`ClaimError`].
    pub fn claim(directory: &Path) -> Result<Self, ClaimError> {
        let path = directory.join(LOCK_FILE);
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(ClaimError::Unusable { path, error });
            }
            _ => {}
        }
        let unusable = |error| ClaimError::Unusable { path: path.clone(), error };
        let flags = OFlags::RDWR | OFlags::CREATE;
        let mut lock = open(&path, flags)?;
        // Whoever holds it may be about to write its number, or be `check` that only looks.
        for _ in 0..TRIES {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    write_pid(&mut lock).map_err(unusable)?;
                    return Ok(Self { lock, directory: directory.to_owned() });
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(unusable(error.into())),
            }
            match read_pid(&lock) {
                Some(pid) if is_alive(pid) => return Err(ClaimError::Busy { pid, path }),
                _ => thread::sleep(PAUSE),
            }
        }
        Err(ClaimError::Nameless { path })
    }

    /// The process that is the daemon of `directory`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When the lock is there and cannot be read.
    pub fn holder(directory: &Path) -> Result<Option<u32>, ClaimError> {
        let path = directory.join(LOCK_FILE);
        let lock = match open(&path, OFlags::RDONLY) {
            Ok(lock) => lock,
            Err(ClaimError::Unusable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(read_pid(&lock).filter(|pid| is_alive(*pid))),
            Err(error) => Err(ClaimError::Unusable { path, error: error.into() }),
        }
    }

    /// Gives directory and lock to the user that the daemon becomes, so that the next one, started
    /// as that user, can take them over, and this one can remove its socket.
    ///
    /// # Errors
    ///
    /// Those of chown(2): it needs root, or that they are that user's already.
    pub fn hand_over(&self, user: &User) -> io::Result<()> {
        std::os::unix::fs::fchown(&self.lock, Some(user.uid), Some(user.gid))?;
        let directory = rustix::fs::open(
            &self.directory,
            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        std::os::unix::fs::fchown(&directory, Some(user.uid), Some(user.gid))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Nobody should read our number once the lock is free.
        let _it_is_only_a_name = self.lock.set_len(0);
    }
}

/// The directory may belong to a user without privileges, so root follows no link of its making.
fn open(path: &Path, flags: OFlags) -> Result<File, ClaimError> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let unusable = |error: io::Error| ClaimError::Unusable { path: path.to_owned(), error };
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(ClaimError::NoPlainFile { path: path.to_owned() }),
        Err(error) => return Err(unusable(error.into())),
    };
    let metadata = file.metadata().map_err(unusable)?;
    if metadata.is_file() && metadata.nlink() == 1 {
        Ok(file)
    } else {
        Err(ClaimError::NoPlainFile { path: path.to_owned() })
    }
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn read_pid(lock: &File) -> Option<u32> {
    let mut text = [0; 16];
    let length = lock.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.strip_suffix('\n')?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    let mut state = String::new();
    let stat = fs::File::open(format!("/proc/{pid}/stat"));
    stat.and_then(|mut stat| stat.read_to_string(&mut state)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::BufRead as _,
        os::unix::fs::symlink,
        process::{Child, Command, Stdio},
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    /// Tells a copy of this test program which directory to claim.
    const DIRECTORY: &str = "SOCKWARDEN_TEST_CLAIM";

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("sockwarden-instance-{}-{next}", std::process::id());
            Self(env::temp_dir().join(name))
        }

        fn lock(&self) -> PathBuf {
            self.0.join(LOCK_FILE)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Another process that claims, says what came of it, and holds on until its input ends.
    fn rival(directory: &Path) -> Child {
        let program = env::current_exe().expect("we are running");
        Command::new(program)
            .args(["--exact", "life::instance::tests::what_a_rival_does", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts")
    }

    fn answer(rival: &mut Child) -> String {
        let out = rival.stdout.as_mut().expect("invariant: a pipe");
        let mut lines = io::BufReader::new(out).lines().map_while(Result::ok);
        // The frame of the test program writes its own words before, on the same line even.
        let line = lines.find(|line| line.contains("answer: ")).expect("it answers");
        line.split_once("answer: ").expect("it was found").1.to_owned()
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the answer of the second process")]
    fn what_a_rival_does() {
        let Some(directory) = env::var_os(DIRECTORY) else { return };
        match Instance::claim(Path::new(&directory)) {
            Ok(instance) => {
                println!("answer: won");
                let _ = io::stdin().read_to_end(&mut Vec::new());
                drop(instance);
            }
            Err(error) => println!("answer: {error}"),
        }
    }

    #[test]
    fn of_twenty_processes_at_once_exactly_one_wins_and_all_others_name_it() {
        for stale in [None, Some("")] {
            let directory = Directory::new();
            if let Some(text) = stale {
                fs::create_dir(&directory.0).expect("nobody else has this path");
                fs::write(directory.lock(), text).expect("it is ours");
            }
            let mut rivals: Vec<Child> = (0..20).map(|_| rival(&directory.0)).collect();
            let answers: Vec<String> = rivals.iter_mut().map(answer).collect();
            let winners: Vec<u32> = rivals
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| *answer == "won")
                .map(|(rival, _)| rival.id())
                .collect();
            for rival in &mut rivals {
                drop(rival.stdin.take());
                rival.wait().expect("invariant: our child");
            }
            assert_eq!(winners.len(), 1, "{answers:?}");
            let named = format!("runs as process {} ", winners[0]);
            let others = answers.iter().filter(|answer| *answer != "won");
            for other in others {
                assert!(other.contains(&named), "{other}");
            }
        }
    }

    #[test]
    fn whoever_is_killed_leaves_nothing_in_the_way() {
        let directory = Directory::new();
        let mut rival = rival(&directory.0);
        assert_eq!(answer(&mut rival), "won");
        assert_eq!(Instance::holder(&directory.0).expect("readable"), Some(rival.id()));
        let Err(ClaimError::Busy { pid, .. }) = Instance::claim(&directory.0) else {
            panic!("it is taken")
        };
        assert_eq!(pid, rival.id());
        rival.kill().expect("invariant: our child");
        rival.wait().expect("invariant: our child");
        let text = fs::read_to_string(directory.lock()).expect("it stays");
        assert_eq!(text, format!("{}\n", rival.id()), "killed, it could not clean up");
        assert_eq!(Instance::holder(&directory.0).expect("readable"), None);
        let instance = Instance::claim(&directory.0).expect("the lock is free");
        let text = fs::read_to_string(directory.lock()).expect("it is there");
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(instance);
        assert_eq!(fs::read_to_string(directory.lock()).expect("it stays"), "");
    }

    #[test]
    fn a_number_of_somebody_alive_is_not_enough() {
        let directory = Directory::new();
        fs::create_dir(&directory.0).expect("nobody else has this path");
        // After a reboot the number may be another's.
        fs::write(directory.lock(), "1\n").expect("it is ours");
        assert_eq!(Instance::holder(&directory.0).expect("readable"), None);
        Instance::claim(&directory.0).expect("nobody holds the lock");
    }

    #[test]
    fn garbage_in_the_file_is_taken_over() {
        for garbage in [&b"\xff\xfe"[..], b"-1\n", b"99999999999999999999", &[b'9'; 10_000]] {
            let directory = Directory::new();
            fs::create_dir(&directory.0).expect("nobody else has this path");
            fs::write(directory.lock(), garbage).expect("it is ours");
            let _instance = Instance::claim(&directory.0).expect("nobody holds the lock");
            let text = fs::read_to_string(directory.lock()).expect("it is there");
            assert_eq!(text, format!("{}\n", std::process::id()));
        }
    }

    #[test]
    fn a_holder_without_a_name_is_told_from_one_with() {
        let directory = Directory::new();
        let instance = Instance::claim(&directory.0).expect("nobody holds the lock");
        // Nothing yet, and what a killed one left: above the most that a number can be.
        for text in ["", "4194305\n"] {
            fs::write(directory.lock(), text).expect("it is ours");
            let error = Instance::claim(&directory.0).expect_err("it is taken");
            assert!(matches!(error, ClaimError::Nameless { .. }), "{error}");
        }
        drop(instance);
    }

    #[test]
    fn nobody_makes_us_write_through_a_link() {
        let directory = Directory::new();
        fs::create_dir(&directory.0).expect("nobody else has this path");
        let victim = directory.0.join("victim");
        fs::write(&victim, "precious").expect("it is ours");
        symlink(&victim, directory.lock()).expect("it is ours");
        let by_symlink = Instance::claim(&directory.0).expect_err("a link");
        fs::remove_file(directory.lock()).expect("it is ours");
        fs::hard_link(&victim, directory.lock()).expect("it is ours");
        let by_hard_link = Instance::claim(&directory.0).expect_err("a link");
        fs::remove_file(directory.lock()).expect("it is ours");
        fs::create_dir(directory.lock()).expect("it is ours");
        let by_directory = Instance::claim(&directory.0).expect_err("a directory");
        assert_eq!(fs::read_to_string(&victim).expect("it is ours"), "precious");
        assert!(matches!(by_symlink, ClaimError::NoPlainFile { .. }), "{by_symlink}");
        assert!(matches!(by_hard_link, ClaimError::NoPlainFile { .. }), "{by_hard_link}");
        assert!(matches!(by_directory, ClaimError::Unusable { .. }), "{by_directory}");
    }

    #[test]
    fn without_a_parent_directory_the_error_says_what_to_make() {
        let directory = Directory::new();
        let error = Instance::claim(&directory.0.join("run")).expect_err("no parent");
        assert!(error.to_string().contains("systemd-tmpfiles"), "{error}");
        assert_eq!(Instance::holder(&directory.0).expect("none"), None);
    }
}
