//! EDGE: the two doors, opened while the daemon may still do so.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::unistd::Group;

/// Owner and group, nobody else (unix(7): connecting needs write permission on the file).
const MODE: u32 = 0o660;

/// Why a door did not open.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can be reached from elsewhere.
    #[error(
        "{0} is no loopback address: the API has no authentication on TCP; listen on 127.0.0.1 or \
         [::1], and put a proxy before it if others must read"
    )]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("cannot listen on {address}: {source}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("another process answers on {0}: end it, or set another `socket` in [api]")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} is there and is no socket: remove it, or set another `socket` in [api]")]
    NotASocket(PathBuf),
    /// There is no such group.
    #[error(
        "there is no group `{0}`: `groupadd --system {0}` makes it, or change `group` in [api]"
    )]
    NoGroup(String),
    /// The system refused.
    #[error("cannot make the socket {path}: {source}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The Unix socket of the API. The file goes when this does, unless another one is there by then
/// or the privileges for it are gone.
#[derive(Debug)]
pub struct UnixDoor {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    pub(super) group: Option<u32>,
    inode: Option<u64>,
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        let present = fs::symlink_metadata(&self.path).ok().map(|file| file.ino());
        if present.is_some() && present == self.inode {
            // A file that stays is taken over by the next start.
            let _stays = fs::remove_file(&self.path);
        }
    }
}

/// Listens for readers on TCP.
///
/// # Errors
///
/// [`ListenError::NotLoopback`], [`ListenError::Tcp`].
pub fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    if !address.ip().to_canonical().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    let failed = |source| ListenError::Tcp { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Listens for readers and writers at `path`, with mode 0660, the group `group` and the owner
/// `owner` (the user that the daemon becomes; `None` leaves it). A file that a dead daemon left
/// there is replaced.
///
/// The socket gets its rights under another name and is renamed then: at no time can anybody
/// connect to `path` who may not.
///
/// # Errors
///
/// [`ListenError::InUse`] when somebody answers there, [`ListenError::NotASocket`],
/// [`ListenError::NoGroup`], [`ListenError::Unix`].
pub fn bind_unix(
    path: &Path,
    group: Option<&str>,
    owner: Option<u32>,
) -> Result<UnixDoor, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    let group = group.map(group_id).transpose()?;
    check_free(path)?;
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    // Left by a daemon that died here and had the same number.
    let _not_there = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(failed)?;
    let prepare = || {
        listener.set_nonblocking(true)?;
        // Not even a call that changes nothing: the unit's filter of system calls has none.
        if owner.is_some() || group.is_some() {
            chown(&hidden, owner, group)?;
        }
        fs::set_permissions(&hidden, fs::Permissions::from_mode(MODE))?;
        let inode = fs::symlink_metadata(&hidden)?.ino();
        fs::rename(&hidden, path)?;
        Ok(inode)
    };
    match prepare() {
        Ok(inode) => Ok(UnixDoor { listener, path: path.to_owned(), group, inode: Some(inode) }),
        Err(source) => {
            let _not_there = fs::remove_file(&hidden);
            Err(failed(source))
        }
    }
}

fn group_id(name: &str) -> Result<u32, ListenError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(ListenError::NoGroup(name.to_owned())),
    }
}

/// Nothing is at `path`, or a socket on which nobody listens.
fn check_free(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !file.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // A queue that is full belongs to somebody.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ListenError::InUse(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed when dropped.
    struct Room(PathBuf);

    impl Room {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("swapi-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a directory can be made");
            Self(path)
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn tcp_is_for_this_host_only() {
        for refused in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0", "[::ffff:192.0.2.1]:0"] {
            let address = refused.parse().expect("invariant: an address");
            assert!(matches!(bind_tcp(address), Err(ListenError::NotLoopback(_))), "{refused}");
        }
        assert!(bind_tcp("127.0.0.1:0".parse().expect("invariant: an address")).is_ok());
    }

    #[test]
    fn the_socket_is_for_its_owner_and_its_group() {
        let room = Room::new("mode");
        let path = room.0.join("api.sock");
        let door = bind_unix(&path, None, None).expect("nothing is there");
        let file = fs::symlink_metadata(&path).expect("it is there");
        assert_eq!(file.permissions().mode() & 0o7777, 0o660);
        assert_eq!(fs::read_dir(&room.0).expect("readable").count(), 1, "no other name is left");
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let room = Room::new("stale");
        let path = room.0.join("api.sock");
        drop(UnixListener::bind(&path).expect("nothing is there"));
        assert!(path.exists(), "a listener that dies leaves its file");
        let door = bind_unix(&path, None, None).expect("nobody answers");
        assert!(matches!(bind_unix(&path, None, None), Err(ListenError::InUse(_))));
        assert!(UnixStream::connect(&path).is_ok(), "the living one is untouched");
        drop(door);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let room = Room::new("file");
        let path = room.0.join("api.sock");
        fs::write(&path, "precious").expect("writable");
        assert!(matches!(bind_unix(&path, None, None), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("readable"), "precious");
        let unknown = bind_unix(&room.0.join("b"), Some("no-such-group-here"), None);
        assert!(matches!(unknown, Err(ListenError::NoGroup(_))));
        let no_room = bind_unix(&room.0.join("missing/api.sock"), None, None);
        assert!(matches!(no_room, Err(ListenError::Unix { .. })));
    }

    #[test]
    fn the_socket_of_a_successor_stays() {
        let room = Room::new("successor");
        let path = room.0.join("api.sock");
        let first = bind_unix(&path, None, None).expect("nothing is there");
        fs::remove_file(&path).expect("it is there");
        let second = bind_unix(&path, None, None).expect("nothing is there");
        drop(first);
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
    }
}
