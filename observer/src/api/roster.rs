//! How the API changes the fleet, whoever keeps it.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fleet::DeviceSpec;

/// The keeper of the fleet.
///
/// The API runs [`Roster::add`] and [`Roster::remove`] in tasks of their own, to their end: a client
/// that hangs up in the middle leaves nothing half done.
pub trait Roster: Send + Sync {
    /// Adds a device. When it returns `Ok`, the device survives the end of the daemon.
    fn add(&self, spec: DeviceSpec) -> BoxFuture<'_, Result<(), RosterError>>;
    /// Removes a device. When it returns `Ok`, its socket is gone.
    fn remove(&self, id: &str) -> BoxFuture<'_, Result<(), RosterError>>;
    /// All devices, in no order.
    fn list(&self) -> Vec<Entry>;
}

/// One device of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name: untrusted text.
    pub id: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Its MQTT client id: untrusted text.
    pub client_id: String,
}

/// Where a device comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The file of the fleet: only an edit of it removes the device.
    File,
    /// The API.
    Api,
}

impl Origin {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// Why the fleet was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The device is not one: change the request.
    #[error("{message}")]
    Invalid {
        /// What is wrong, and what is allowed. It must not repeat a password.
        message: String,
        /// The field that is wrong, as it is called in the request.
        field: Option<String>,
    },
    /// There is one of this name: choose another, or remove that one first.
    #[error("device {0} is there already: remove it first, or choose another id")]
    Exists(String),
    /// There is none of this name.
    #[error("there is no device {0}: `sockwarden devices` lists them")]
    Unknown(String),
    /// It is in the file of the fleet.
    #[error("device {0} comes from the file of the fleet: remove it there, then reload the daemon")]
    OfTheFile(String),
    /// The pool does not want it.
    #[error(transparent)]
    Pool(pool::Error),
    /// It could not be kept: the operator must act.
    #[error("the device could not be stored: {0}")]
    Store(String),
    /// It was changed in part, and says what is left to do: the operator must act.
    #[error("{0}")]
    HalfDone(String),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}
