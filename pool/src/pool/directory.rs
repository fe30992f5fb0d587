use crate::budget::DescriptorBudget;
use crate::clock;
use crate::device::{Device, DeviceId};
use crate::error::{CallerError, Error};
use crate::fleet::SlotKey;
use crate::line::Line;
use std::collections::HashMap;
use std::sync::Arc;

/// Which devices there are. Checked at the call, so that a mistake is told to who made it.
#[derive(Debug)]
pub(super) struct Directory {
    lines: HashMap<DeviceId, Arc<Line>>,
    /// Of the devices whose client id is not their name.
    client_ids: HashMap<Arc<str>, DeviceId>,
    descriptors: DescriptorBudget,
    next_key: u32,
    pub(super) closed: bool,
}

impl Directory {
    pub(super) fn new(descriptors: DescriptorBudget) -> Self {
        Self {
            lines: HashMap::new(),
            client_ids: HashMap::new(),
            descriptors,
            next_key: 0,
            closed: false,
        }
    }

    pub(super) fn add(&mut self, device: Device) -> Result<Arc<Line>, Error> {
        if self.closed {
            return Err(CallerError::Closed.into());
        }
        if self.lines.contains_key(&device.id) {
            return Err(CallerError::DuplicateDevice(device.id).into());
        }
        if let Some(other) = self.owner_of(device.mqtt_client_id()) {
            let client_id = device.mqtt_client_id().to_owned();
            return Err(CallerError::DuplicateClientId { client_id, other }.into());
        }
        self.descriptors.promise(1)?;
        if let Some(client_id) = &device.client_id {
            self.client_ids.insert(Arc::clone(client_id), device.id.clone());
        }
        let key = SlotKey(self.next_key);
        self.next_key = self.next_key.checked_add(1).expect("invariant: four billion adds");
        let line = Arc::new(Line::new(key, device, clock::now()));
        self.lines.insert(line.device.id.clone(), Arc::clone(&line));
        Ok(line)
    }

    pub(super) fn find(&self, device: &str) -> Result<Arc<Line>, CallerError> {
        if self.closed {
            return Err(CallerError::Closed);
        }
        match self.lines.get(device) {
            Some(line) => Ok(Arc::clone(line)),
            None => Err(CallerError::UnknownDevice(DeviceId::new(device)?)),
        }
    }

    pub(super) fn forget(&mut self, device: &Device) {
        if self.lines.remove(&device.id).is_some() {
            self.descriptors.give_back(1);
            if let Some(client_id) = &device.client_id {
                self.client_ids.remove(client_id);
            }
        }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &Arc<Line>> {
        self.lines.values()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn descriptors(&mut self) -> &mut DescriptorBudget {
        &mut self.descriptors
    }

    /// Whose client id it is: by its own choice, or because it is its name.
    fn owner_of(&self, client_id: &str) -> Option<DeviceId> {
        if let Some(owner) = self.client_ids.get(client_id) {
            return Some(owner.clone());
        }
        let namesake = self.lines.get(client_id)?;
        namesake.device.client_id.is_none().then(|| namesake.device.id.clone())
    }
}
