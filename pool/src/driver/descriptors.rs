//! How many descriptors this process may have, and how many it has.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;

/// The limit of open files (RLIMIT_NOFILE, getrlimit(2)) after [`raise_limit`].
/// `u64::MAX` stands for no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorLimit {
    /// The soft limit at first.
    pub(crate) before: u64,
    /// The soft limit now: what counts.
    pub(crate) soft: u64,
    /// Only a privileged process raises this one.
    pub(crate) hard: u64,
    /// Why the soft limit could not be raised to the hard one.
    pub(crate) refused: Option<String>,
}

/// Raises the soft limit to the hard one: systemd and most shells hand out 1,024 of many more.
///
/// The whole process has one limit; raising it twice does no harm. Nothing here uses select(2),
/// which is what the low soft limit is for.
pub(crate) fn raise_limit() -> DescriptorLimit {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (before, hard) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    if before == hard {
        return DescriptorLimit { before, soft: before, hard, refused: None };
    }
    let refused = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .err()
        .map(|error| error.to_string());
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    DescriptorLimit { before, soft, hard, refused }
}

/// How many descriptors are open in this process.
///
/// Since Linux 6.2 the size of /proc/self/fd is the number (`proc_fd_getattr`, fs/proc/fd.c): a
/// few microseconds. Before that it lists them all, some milliseconds for 12,000.
///
/// # Errors
///
/// Where /proc is not mounted.
pub(crate) fn count_open() -> io::Result<u64> {
    match fs::metadata("/proc/self/fd")?.len() {
        0 => list_open(),
        count => Ok(count),
    }
}

fn list_open() -> io::Result<u64> {
    let listed = fs::read_dir("/proc/self/fd")?.count() as u64;
    // One of them is the directory's own.
    Ok(listed.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let lower = hard.map(|hard| hard - 1);
        setrlimit(Resource::Nofile, Rlimit { current: lower, maximum: hard })
            .expect("invariant: lowering is allowed");
        let limit = raise_limit();
        assert_eq!(limit.before, lower.unwrap_or(u64::MAX));
        assert_eq!((limit.soft, limit.refused), (limit.hard, None));
        assert_eq!(raise_limit().before, limit.hard);
    }

    #[test]
    fn open_files_are_counted_either_way() {
        // Other tests open and close sockets meanwhile, but not by hundreds at once.
        let files: Vec<_> = (0..2_000)
            .map(|_| File::open("/dev/null").expect("invariant: there is room"))
            .collect();
        for count in [count_open(), list_open()] {
            let count = count.expect("invariant: /proc is mounted");
            assert!((2_000..3_000).contains(&count), "{count}");
        }
        drop(files);
    }
}
