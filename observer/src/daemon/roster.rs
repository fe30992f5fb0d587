//! The fleet as the API sees it.

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    api,
    fleet::{DeviceSpec, FleetError, Origin, Roster},
};

/// A fleet behind the API's door.
pub(super) struct Door(pub(super) Roster);

impl api::Roster for Door {
    fn add(&self, spec: DeviceSpec) -> BoxFuture<'_, Result<(), api::RosterError>> {
        self.0.add(spec).map(|result| result.map_err(refusal)).boxed()
    }

    fn remove(&self, id: &str) -> BoxFuture<'_, Result<(), api::RosterError>> {
        let id = id.to_owned();
        async move { self.0.remove(&id).await.map_err(refusal) }.boxed()
    }

    fn list(&self) -> Vec<api::Entry> {
        let entry = |entry: crate::fleet::Entry| api::Entry {
            id: entry.id.to_string(),
            origin: match entry.origin {
                Origin::File => api::Origin::File,
                Origin::Api => api::Origin::Api,
            },
            client_id: entry.client_id.to_string(),
        };
        self.0.list().into_iter().map(entry).collect()
    }
}

fn refusal(error: FleetError) -> api::RosterError {
    match error {
        FleetError::Exists { id } => api::RosterError::Exists(id),
        FleetError::Unknown { id } => api::RosterError::Unknown(id),
        FleetError::OfTheFile { id } => api::RosterError::OfTheFile(id),
        FleetError::Pool(error) => api::RosterError::Pool(error),
        FleetError::Store(error) => api::RosterError::Store(error.to_string()),
        FleetError::Ending => api::RosterError::Ending,
        FleetError::Invalid(complaints) => {
            api::RosterError::Invalid { message: complaints.to_string(), field: None }
        }
        // No request brings about the error of a file; whatever else it is, it is not the caller's.
        other @ (FleetError::HalfDone { .. } | FleetError::File { .. }) => {
            api::RosterError::HalfDone(other.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_request_is_the_callers_fault() {
        let half =
            FleetError::HalfDone { refused: pool::CallerError::Closed.into(), undo: String::new() };
        assert!(matches!(refusal(half), api::RosterError::HalfDone(_)));
        assert_eq!(refusal(FleetError::Ending), api::RosterError::Ending);
    }
}
