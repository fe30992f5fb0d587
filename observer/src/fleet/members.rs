//! PURE. Who belongs to the fleet: the file's devices and the API's, as the template makes them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pool::{CallerError, DeviceId};

use super::{DeviceSpec, Template, template};

/// Where a device comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The fleet's file.
    File,
    /// The API; it is kept in the store.
    Api,
}

/// A device of the fleet. Its texts come from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: Arc<str>,
    /// Where it comes from.
    pub origin: Origin,
    /// Its MQTT client id.
    pub client_id: Arc<str>,
}

/// A device of the store that is not in the pool. It stays in the store, and comes back when the
/// reason is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name: text from outside.
    pub id: String,
    /// Why: text from outside may be in it.
    pub reason: String,
    /// Whether the file has a device of the same name, so that the name is served.
    pub is_in_file: bool,
}

/// A device as it was written, in a tenth of the memory: the fleet keeps all of them, to see at a
/// reload which are others now.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Packed(Box<str>);

impl Packed {
    fn new(spec: &DeviceSpec) -> Self {
        let text = serde_json::to_string(spec).expect("invariant: texts and numbers only");
        Self(text.into())
    }

    /// The device itself.
    pub(super) fn unpack(&self) -> DeviceSpec {
        serde_json::from_str(&self.0).expect("invariant: it was written from one")
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The device knows which of its words are secret.
        self.unpack().fmt(f)
    }
}

/// A device with all that the template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) entry: Entry,
    pub(super) spec: Packed,
}

/// Devices by name. No two have the same client id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    by_id: BTreeMap<Arc<str>, Arc<Member>>,
    /// Whose client id it is.
    owners: HashMap<Arc<str>, Arc<str>>,
}

impl Member {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`].
    pub(super) fn new(
        origin: Origin,
        spec: &DeviceSpec,
        template: &Template,
    ) -> Result<Self, CallerError> {
        let spec = template.resolve(spec)?;
        template::build(&spec)?;
        let id: Arc<str> = spec.id.as_str().into();
        let client_id = spec.client_id.as_deref().map_or_else(|| Arc::clone(&id), Arc::from);
        Ok(Self { entry: Entry { id, origin, client_id }, spec: Packed::new(&spec) })
    }
}

impl Members {
    /// What file, store and template make together. The file wins over the store.
    ///
    /// # Errors
    ///
    /// The first device of the file that is wrong, or clashes with another one of the file.
    pub(super) fn assemble(
        file: &[DeviceSpec],
        api: &BTreeMap<String, DeviceSpec>,
        template: &Template,
    ) -> Result<(Self, Vec<LeftOut>), CallerError> {
        let mut members = Self::default();
        for spec in file {
            members.insert(Member::new(Origin::File, spec, template)?)?;
        }
        let mut left_out = Vec::new();
        for (id, spec) in api {
            let is_in_file = members.get(id).is_some();
            let added = Member::new(Origin::Api, spec, template)
                .and_then(|member| members.insert(member).map(|_| ()));
            if let Err(error) = added {
                let reason = match is_in_file {
                    true => "the fleet's file has a device of the same id".to_owned(),
                    false => error.to_string(),
                };
                left_out.push(LeftOut { id: id.clone(), reason, is_in_file });
            }
        }
        Ok((members, left_out))
    }

    /// # Errors
    ///
    /// [`CallerError::DuplicateDevice`], [`CallerError::DuplicateClientId`]: nothing was changed.
    pub(super) fn insert(&mut self, member: Member) -> Result<Arc<Member>, CallerError> {
        self.check(&member.entry)?;
        let Entry { id, client_id, .. } = &member.entry;
        self.owners.insert(Arc::clone(client_id), Arc::clone(id));
        let (id, member) = (Arc::clone(id), Arc::new(member));
        self.by_id.insert(id, Arc::clone(&member));
        Ok(member)
    }

    /// Whether there is room for it.
    ///
    /// # Errors
    ///
    /// [`CallerError::DuplicateDevice`], [`CallerError::DuplicateClientId`].
    pub(super) fn check(&self, entry: &Entry) -> Result<(), CallerError> {
        if self.by_id.contains_key(&entry.id) {
            return Err(CallerError::DuplicateDevice(DeviceId::new(&entry.id)?));
        }
        if let Some(owner) = self.owners.get(&entry.client_id) {
            let client_id = entry.client_id.to_string();
            return Err(CallerError::DuplicateClientId { client_id, other: DeviceId::new(owner)? });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Arc<Member>> {
        let member = self.by_id.remove(id)?;
        self.owners.remove(&member.entry.client_id);
        Some(member)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<Member>> {
        self.by_id.get(id)
    }

    /// By name.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Member>> {
        self.by_id.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, client_id: &str) -> DeviceSpec {
        let client_id = Some(client_id.to_owned());
        DeviceSpec { id: id.into(), client_id, ..DeviceSpec::default() }
    }

    fn assemble(
        file: &[DeviceSpec],
        api: &[DeviceSpec],
        template: &Template,
    ) -> Result<(Members, Vec<LeftOut>), CallerError> {
        let api = api.iter().map(|spec| (spec.id.clone(), spec.clone())).collect();
        Members::assemble(file, &api, template)
    }

    #[test]
    fn the_file_wins_over_the_store() {
        let file = [device("a", "x"), device("b", "b")];
        let api = [device("a", "y"), device("c", "x"), device("d", "b"), device("e", "e")];
        let (members, left_out) =
            assemble(&file, &api, &Template::default()).expect("invariant: the file is well");
        let list: Vec<_> = members
            .iter()
            .map(|it| (&*it.entry.id, it.entry.origin, &*it.entry.client_id))
            .collect();
        assert_eq!(
            list,
            [("a", Origin::File, "x"), ("b", Origin::File, "b"), ("e", Origin::Api, "e")]
        );
        let left_out: Vec<_> =
            left_out.iter().map(|it| (it.id.as_str(), it.is_in_file, it.reason.as_str())).collect();
        assert_eq!(
            left_out,
            [
                ("a", true, "the fleet's file has a device of the same id"),
                (
                    "c",
                    false,
                    "client id \"x\" is device a's: the broker keeps one session per client id"
                ),
                (
                    "d",
                    false,
                    "client id \"b\" is device b's: the broker keeps one session per client id"
                ),
            ]
        );
    }

    #[test]
    fn a_device_of_the_store_that_the_template_spoils_is_left_out() {
        let template = Template { client_id: Some("same".into()), ..Template::default() };
        let plain = |id: &str| DeviceSpec { id: id.into(), ..DeviceSpec::default() };
        let (members, left_out) =
            assemble(&[plain("a")], &[plain("b")], &template).expect("invariant: one is well");
        assert_eq!((members.len(), left_out.len()), (1, 1));
    }

    #[test]
    fn a_clash_inside_the_file_is_an_error() {
        let file = [device("a", "x"), device("b", "x")];
        assert!(assemble(&file, &[], &Template::default()).is_err());
        let file = [device("a", "x"), device("a", "y")];
        assert!(assemble(&file, &[], &Template::default()).is_err());
    }

    #[test]
    fn a_client_id_is_free_when_its_owner_is_gone() {
        let member = |id, client_id| {
            Member::new(Origin::Api, &device(id, client_id), &Template::default())
                .expect("invariant: it is well")
        };
        let mut members = Members::default();
        members.insert(member("a", "x")).expect("it is empty");
        assert!(members.insert(member("b", "x")).is_err());
        assert!(members.remove("b").is_none());
        assert!(members.remove("a").is_some());
        members.insert(member("b", "x")).expect("the client id is free");
        assert_eq!(members.len(), 1);
    }
}
