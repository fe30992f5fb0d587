//! EDGE: the devices that came by the API, in a file that survives kill -9 at any point.
//!
//! One table from id to device. A value is a version byte and then JSON, so that a later version
//! can tell what it reads.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, TableError, backends::FileBackend,
};

use super::DeviceSpec;

const DEVICES: TableDefinition<&str, &[u8]> = TableDefinition::new("devices");

/// First byte of a value: the rest is a [`DeviceSpec`] in JSON.
const JSON: u8 = 1;

/// Pages that redb keeps in memory, bytes. Devices are read once and written seldom.
const CACHE: usize = 4 << 20;

/// The devices of the API. What was put is there after any end of the process.
pub struct Store {
    database: Database,
    path: PathBuf,
}

/// Why the store failed. The operator acts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else has it.
    #[error("the store {path} is open in another process: is a sockwarden running already?")]
    InUse {
        /// The file.
        path: String,
    },
    /// It is not what this program wrote.
    #[error(
        "the store {path} is damaged ({problem}): put back a copy of it, or move it away to begin \
         without the devices of the API"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It is of a version to come.
    #[error(
        "the store {path} has device {id:?} in version {version}, this sockwarden knows version \
         {JSON}: use the newer sockwarden that wrote it"
    )]
    TooNew {
        /// The file.
        path: String,
        /// The device.
        id: String,
        /// The version of its entry.
        version: u8,
    },
    /// The system refused.
    #[error("the store {path}: {problem}: look after its directory, its rights and the disk")]
    System {
        /// The file.
        path: String,
        /// What the system said.
        problem: String,
    },
}

impl Store {
    /// Opens the store, or creates an empty one (mode 0600; its directory must be there). After a
    /// crash it is mended first. All of it is read and checked. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. A damaged file is left to the operator.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let system = |error: io::Error| system(path, error);
        if !path.try_exists().map_err(system)? {
            create(path)?;
        }
        let file = File::options().read(true).write(true).open(path).map_err(system)?;
        let database = database(path, file)?;
        Ok(Self { database, path: path.to_owned() })
    }

    /// All devices, by id. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn all(&self) -> Result<Vec<DeviceSpec>, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        let table = match transaction.open_table(DEVICES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let rows = table.iter().map_err(|error| self.failed(error))?;
        let device =
            |row: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), _>| {
                let (id, value) = row.map_err(|error: StorageError| self.failed(error))?;
                self.read(id.value(), value.value())
            };
        rows.map(device).collect()
    }

    /// Keeps a device, in place of one of the same id. When it returns, the device is on the disk.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is as it was.
    pub fn put(&self, device: &DeviceSpec) -> Result<(), StoreError> {
        let mut value = vec![JSON];
        serde_json::to_writer(&mut value, device)
            .expect("invariant: a vector takes all bytes, and every text is valid JSON");
        self.change(|table| table.insert(device.id.as_str(), value.as_slice()).map(|_| ()))
    }

    /// Forgets a device; nothing happens if there is none. When it returns, the disk has forgotten
    /// it too. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is as it was.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.change(|table| table.remove(id).map(|_| ()))
    }

    /// One durable transaction: redb's default is to sync before commit returns.
    fn change(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, &str, &[u8]>) -> Result<(), StorageError>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            let mut table = transaction.open_table(DEVICES).map_err(|error| self.failed(error))?;
            change(&mut table).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    fn read(&self, id: &str, value: &[u8]) -> Result<DeviceSpec, StoreError> {
        let json = match value.split_first() {
            Some((&JSON, json)) => json,
            Some((&version, _)) => {
                let path = self.path.display().to_string();
                return Err(StoreError::TooNew { path, id: id.to_owned(), version });
            }
            None => return Err(damaged(&self.path, format!("device {id:?} has no value"))),
        };
        let device: DeviceSpec = serde_json::from_slice(json)
            .map_err(|error| damaged(&self.path, format!("device {id:?}: {error}")))?;
        if device.id != id {
            return Err(damaged(&self.path, format!("device {id:?} has the value of another")));
        }
        Ok(device)
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Io(error) => system(&self.path, error),
            redb::Error::Corrupted(problem) => damaged(&self.path, problem),
            other => system(&self.path, other),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes an empty store under another name and then gives it its own: redb cannot open a file
/// whose making was interrupted. A kill in that moment leaves a small file that nobody reads.
fn create(path: &Path) -> Result<(), StoreError> {
    let system = |error: io::Error| system(path, error);
    let name = path.file_name().ok_or_else(|| system(io::ErrorKind::IsADirectory.into()))?;
    let mut draft_name = name.to_owned();
    draft_name.push(format!(".new-{}", std::process::id()));
    let draft = path.with_file_name(draft_name);
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let made = (|| {
        remove_if_there(&draft).map_err(system)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        drop(database(path, options.open(&draft).map_err(system)?)?);
        match std::fs::hard_link(&draft, path) {
            // Another process was faster; which of the two may have it, its lock says.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(system),
        }
    })();
    remove_if_there(&draft).map_err(system)?;
    made?;
    // Else a power cut could take the name away.
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(system)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Checks every page: redb trusts its file otherwise, and may panic over a damaged one.
fn database(path: &Path, file: File) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    let opened = FileBackend::new(file).and_then(|backend| builder.create_with_backend(backend));
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path: path.display().to_string() }
        }
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            system(path, error)
        }
        other => damaged(path, other.to_string()),
    })
}

fn system(path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::System { path: path.display().to_string(), problem: error.to_string() }
}

fn damaged(path: &Path, problem: String) -> StoreError {
    StoreError::Damaged { path: path.display().to_string(), problem }
}

#[cfg(test)]
mod tests;
