//! EDGE: what the process may do, given up for good before anything from outside is read.
//!
//! Capabilities, `no_new_privs` and the bounding set belong to a thread and not to the process
//! (capabilities(7)), so all of this happens while there is one thread only. Whatever is started
//! later inherits what is left.
//!
//! What a process that is not dumpable can still do, though its files in `/proc` belong to root
//! (`task_dump_owner`, fs/proc/base.c): list its own `/proc/self/fd` and `fdinfo`
//! (`proc_fd_permission` lets a thread group see itself), read `status`, `stat`, `statm`, `limits`,
//! `cgroup`, `maps`, follow `exe` and `ns/*`. What it cannot: read `/proc/self/{environ,io}` and
//! write `oom_score_adj`. Of other users' processes it reads `stat`, `status`, `limits`, `cgroup`
//! and, from Linux 6.2 on, the number of descriptors as the size of `/proc/PID/fd`.

use std::io;

use nix::unistd::{self, Gid, Uid};
use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::{self, CapabilitySet, CapabilitySets},
};

pub use remaining::Remaining;

use kept::kept;

mod kept;
mod remaining;

/// A user of this host that the daemon may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number, not 0.
    pub uid: u32,
    /// Number of its group, not 0.
    pub gid: u32,
}

/// Why the privileges could not be dropped. The daemon must not go on then.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The operator: make the user.
    #[error(
        "there is no user `{name}` for the daemon to become. Make it (`echo 'u {name} - \
         \"sockwarden daemon\" /var/lib/sockwarden' > /etc/sysusers.d/{name}.conf; \
         systemd-sysusers`), or name another one in `privileges.user`"
    )]
    NoUser {
        /// The name that is not known.
        name: String,
    },
    /// The operator: root is what the daemon must not stay.
    #[error(
        "the daemon cannot become `{name}`: user {uid} with group {gid} is root or of root's group. \
         Name a user without privileges in `privileges.user`"
    )]
    StillRoot {
        /// The name.
        name: String,
        /// Its number.
        uid: u32,
        /// Number of its group.
        gid: u32,
    },
    /// Nobody but the programmer: threads exist already.
    #[error(
        "privileges were to be dropped with {threads} threads running, and would stay with all of \
         them but one. This is a fault of sockwarden: report it"
    )]
    Threads {
        /// How many.
        threads: usize,
    },
    /// The operator: a container or a security module is in the way.
    #[error(
        "privileges could not be dropped: {doing} failed ({error}). Start sockwarden as root with \
         CAP_SETUID and CAP_SETGID, or by its systemd unit, which starts it as its own user"
    )]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The operator: the kernel did not do what it confirmed.
    #[error(
        "privileges were dropped and are still there: {what}. The daemon does not go on with them; \
         look for a security module or a sandbox that changes system calls"
    )]
    NotDropped {
        /// What is still there.
        what: String,
    },
}

impl User {
    /// Looks `name` up in the user database.
    ///
    /// # Errors
    ///
    /// [`PrivilegeError::NoUser`]; [`PrivilegeError::StillRoot`] for user 0 and users of group 0.
    pub fn find(name: &str) -> Result<Self, PrivilegeError> {
        let found = unistd::User::from_name(name).map_err(failed("looking the user up"))?;
        let Some(user) = found else {
            return Err(PrivilegeError::NoUser { name: crate::escape::short(name, 64).into() });
        };
        Self::harmless(user.name, user.uid.as_raw(), user.gid.as_raw())
    }

    fn harmless(name: String, uid: u32, gid: u32) -> Result<Self, PrivilegeError> {
        if uid == 0 || gid == 0 {
            return Err(PrivilegeError::StillRoot { name, uid, gid });
        }
        Ok(Self { name, uid, gid })
    }

    /// Its groups, as the group database has them; never group 0.
    fn groups(&self) -> Result<Vec<Gid>, PrivilegeError> {
        let name = std::ffi::CString::new(self.name.as_bytes())
            .expect("invariant: the user database gave the name as a C string");
        let mut groups = unistd::getgrouplist(&name, Gid::from_raw(self.gid))
            .map_err(failed("looking the groups up"))?;
        groups.retain(|group| group.as_raw() != 0);
        Ok(groups)
    }
}

/// From here on no memory of this process reaches a disk or another process of its user: no core
/// dump, no ptrace(2), no `/proc/PID/mem`. To be called before the first secret is read.
///
/// # Errors
///
/// [`PrivilegeError::Failed`]; neither call needs a privilege, so only a sandbox can be the cause.
pub fn forbid_core_dumps() -> Result<(), PrivilegeError> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(failed("forbidding core dumps"))?;
    // The limit does not count for dumps into a pipe (core(5)); this does.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbidding core dumps"))
}

/// Gives up everything, for good: root becomes `user` with the groups that the group database gives
/// it; any other user stays who it is. No capability is left, and none can be had again.
///
/// Kernels before 5.19 with `kernel.unprivileged_bpf_disabled` set refuse every bpf(2) call without
/// CAP_BPF, maps that are open included; only there that one stays, and [`Remaining`] says so.
///
/// # Errors
///
/// [`PrivilegeError`]. Part of the privileges may be gone then: the process has to end.
pub fn drop_to(user: &str) -> Result<Remaining, PrivilegeError> {
    let target = if is_root() { Some(User::find(user)?) } else { None };
    let groups = target.as_ref().map(User::groups).transpose()?.unwrap_or_default();
    give_up(target.as_ref(), &groups, kept())
}

/// As [`drop_to`] for a helper that has opened what it needs and asks the kernel for nothing any
/// more: root becomes the user that owns nothing, number 65534 (`DEFAULT_OVERFLOWUID`,
/// include/linux/highuid.h).
///
/// # Errors
///
/// As for [`drop_to`].
pub fn renounce() -> Result<Remaining, PrivilegeError> {
    renounce_but(CapabilitySet::empty())
}

/// As [`renounce`], for a helper whose work needs the capabilities `keep`: they stay, as far as they
/// are there.
///
/// # Errors
///
/// As for [`drop_to`].
pub fn renounce_but(keep: CapabilitySet) -> Result<Remaining, PrivilegeError> {
    let nobody = User { name: "nobody".to_owned(), uid: 65_534, gid: 65_534 };
    give_up(is_root().then_some(&nobody), &[], keep)
}

/// `keep` stays, as far as it is there.
fn give_up(
    target: Option<&User>,
    groups: &[Gid],
    keep: CapabilitySet,
) -> Result<Remaining, PrivilegeError> {
    // Before anything is changed.
    let threads = Remaining::threads().map_err(failed("counting threads"))?;
    if threads != 1 {
        return Err(PrivilegeError::Threads { threads });
    }
    thread::set_no_new_privs(true).map_err(failed("giving up new privileges"))?;
    empty_bounding_set()?;
    let before = thread::capabilities(None).map_err(failed("reading capabilities"))?;
    let keep = keep & before.permitted;
    if let Some(user) = target {
        become_user(user, groups, !keep.is_empty())?;
    }
    // Without inheritable ones there can be no ambient ones either, but a sandbox may lie.
    thread::clear_ambient_capability_set().map_err(failed("clearing ambient capabilities"))?;
    let sets =
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    thread::set_capabilities(None, sets).map_err(failed("giving up capabilities"))?;
    // A change of user sets this to fs.suid_dumpable (`commit_creds`, kernel/cred.c).
    forbid_core_dumps()?;
    verify(target, groups, keep)
}

fn is_root() -> bool {
    unistd::geteuid().is_root() || unistd::getuid().is_root()
}

/// A process without CAP_SETPCAP cannot do this; nothing comes of it, because `no_new_privs` keeps
/// the set from ever mattering.
fn empty_bounding_set() -> Result<(), PrivilegeError> {
    let sets = thread::capabilities(None).map_err(failed("reading capabilities"))?;
    if !sets.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        match thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit))
        {
            Ok(()) => {}
            // The kernel has no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(failed("emptying the bounding set")(error)),
        }
    }
    Ok(())
}

fn become_user(user: &User, groups: &[Gid], keep: bool) -> Result<(), PrivilegeError> {
    thread::set_keep_capabilities(keep).map_err(failed("keeping a capability"))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    // The user goes last: with it goes the right to change the others.
    unistd::setgroups(groups).map_err(failed("setgroups"))?;
    unistd::setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    unistd::setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
    thread::set_keep_capabilities(false).map_err(failed("keeping a capability"))
}

/// Asks the kernel, and does not trust what was just confirmed.
fn verify(
    user: Option<&User>,
    groups: &[Gid],
    keep: CapabilitySet,
) -> Result<Remaining, PrivilegeError> {
    let still = |what: String| PrivilegeError::NotDropped { what };
    let root = Uid::from_raw(0);
    if unistd::setresuid(root, root, root).is_ok() {
        return Err(still("the way back to root".to_owned()));
    }
    let remaining = Remaining::of_this_process().map_err(failed("reading /proc/self"))?;
    let is_user = user.is_none_or(|user| {
        let mut wanted: Vec<u32> = groups.iter().map(|group| group.as_raw()).collect();
        // The kernel sorts them (`set_groups`, kernel/groups.c).
        wanted.sort_unstable();
        (remaining.uid, remaining.gid) == (user.uid, user.gid) && remaining.groups == wanted
    });
    let more = remaining.set - keep;
    let is_closed = remaining.no_new_privs && remaining.dumpable == Some(false);
    if is_user && remaining.uid != 0 && more.is_empty() && is_closed {
        Ok(remaining)
    } else {
        Err(still(remaining.to_string()))
    }
}

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> PrivilegeError {
    move |error| PrivilegeError::Failed { doing, error: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_root_nor_a_user_of_roots_group_is_taken() {
        for (uid, gid, fine) in [(0, 0, false), (0, 5, false), (5, 0, false), (5, 5, true)] {
            let user = User::harmless("somebody".to_owned(), uid, gid);
            assert_eq!(user.is_ok(), fine, "{uid} {gid}");
        }
    }

    #[test]
    fn a_name_from_outside_cannot_write_on_the_terminal() {
        for name in ["no\x1b[2Jbody", "no\0body", ""] {
            let error = User::find(name).expect_err("there is no such user");
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }
}
