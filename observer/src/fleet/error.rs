//! PURE. Why the fleet could not be changed, by who must act.

use super::{Complaints, StoreError};

/// Why the fleet could not be changed. Nothing was, unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// Whoever wrote the file, the template or the request changes it.
    #[error(transparent)]
    Invalid(#[from] Complaints),
    /// The caller takes another name, or removes the device first.
    #[error("device {id:?} is there already: remove it first, or take another id")]
    Exists {
        /// Its name.
        id: String,
    },
    /// The caller looks for the right name.
    #[error("there is no device {id:?}")]
    Unknown {
        /// As it was given.
        id: String,
    },
    /// The caller removes it where it stands, and has the daemon reload.
    #[error("device {id:?} stands in the fleet's file: remove it there, then reload")]
    OfTheFile {
        /// Its name.
        id: String,
    },
    /// The operator makes the file readable.
    #[error("the fleet's file {path}: {problem}")]
    File {
        /// Where.
        path: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The pool refused; its error says who must act.
    #[error(transparent)]
    Pool(#[from] pool::Error),
    /// The operator looks after the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pool refused in the middle of a change, and what was done could not be undone. The
    /// roster lists what the pool has.
    #[error(
        "{refused}; the change could not be undone either ({undo}): restart the daemon to have \
         what its file and its store say"
    )]
    HalfDone {
        /// Why the change failed.
        refused: pool::Error,
        /// Why it could not be undone.
        undo: String,
    },
    /// The daemon is ending, or its worker threads are gone.
    #[error("the daemon is ending")]
    Ending,
}

impl From<pool::CallerError> for FleetError {
    fn from(error: pool::CallerError) -> Self {
        Self::Pool(error.into())
    }
}
