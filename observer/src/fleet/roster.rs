//! EDGE: joins the fleet's file, the store and the pool.
//!
//! A change runs in a task of its own: whoever asked may go away (a client of the API that hangs
//! up), and the change is still done as a whole.

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    path::PathBuf,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use futures_util::{StreamExt as _, stream};
use pool::{CallerError, Pool};
use tokio::sync::Mutex;

use super::{
    Complaints, DeviceSpec, Entry, FleetError, LeftOut, Origin, Store, StoreError, Template, file,
    members::{Member, Members},
    plan::{Plan, Step, plan},
    template,
};
use crate::config;

/// How many devices are removed at a time. Each waits for the kernel's word about its socket.
const AT_A_TIME: usize = 64;

/// The fleet of the daemon; clone it freely.
#[derive(Clone, Debug)]
pub struct Roster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Pool,
    store: Arc<Store>,
    store_path: PathBuf,
    /// What the pool has. Written only by who has `words`.
    members: RwLock<Members>,
    /// One change at a time.
    words: Mutex<Words>,
}

/// What the fleet is made from, beside the file.
#[derive(Debug)]
struct Words {
    template: Template,
    /// What is in the store, those that are left out included.
    api: BTreeMap<String, DeviceSpec>,
}

/// A reload of which nothing is done yet.
struct Prepared {
    old: Members,
    new: Members,
    plan: Plan,
    left_out: Vec<LeftOut>,
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Devices of the file.
    pub file: usize,
    /// Devices of the API that are in the pool.
    pub api: usize,
    /// Devices of the API that are not.
    pub left_out: Vec<LeftOut>,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// New devices.
    pub added: usize,
    /// Devices that are gone.
    pub removed: usize,
    /// Devices that changed, and have a new session.
    pub replaced: usize,
    /// Devices that go on as they were.
    pub kept: usize,
    /// Devices of the API that are not in the pool.
    pub left_out: Vec<LeftOut>,
}

impl Roster {
    /// Loads the file and the store, and adds all devices to the pool. Blocks: for the start.
    ///
    /// # Errors
    ///
    /// [`FleetError`]. When it comes from the pool (too many devices for its descriptors), some
    /// devices may be in it already.
    pub fn open(fleet: &config::Fleet, pool: Pool) -> Result<(Self, Loaded), FleetError> {
        let listed = listed(fleet)?;
        let store = Store::open(&fleet.store)?;
        let api: BTreeMap<_, _> =
            store.all()?.into_iter().map(|spec| (spec.id.clone(), spec)).collect();
        let (members, left_out) = Members::assemble(&listed, &api, &fleet.template)?;
        if members.len() > 0 {
            pool.check_room(members.len())?;
        }
        for member in members.iter() {
            pool.add(template::build(&member.spec.unpack())?)?;
        }
        let loaded = Loaded { file: listed.len(), api: members.len() - listed.len(), left_out };
        let shared = Shared {
            pool,
            store: Arc::new(store),
            store_path: fleet.store.clone(),
            members: RwLock::new(members),
            words: Mutex::new(Words { template: fleet.template.clone(), api }),
        };
        Ok((Self(Arc::new(shared)), loaded))
    }

    /// Adds a device of the API. When it returns, the device survives any end of the process.
    ///
    /// # Errors
    ///
    /// [`FleetError::Invalid`], [`FleetError::Exists`], [`FleetError::Pool`] (a client id that is
    /// taken, no descriptors left), [`FleetError::Store`]: nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// From its first poll on, dropping it takes nothing back.
    pub async fn add(&self, spec: DeviceSpec) -> Result<(), FleetError> {
        let shared = Arc::clone(&self.0);
        whole(async move { shared.add(spec).await }).await
    }

    /// Removes a device of the API. Returns when its socket is gone.
    ///
    /// # Errors
    ///
    /// [`FleetError::Unknown`], [`FleetError::OfTheFile`], [`FleetError::Store`]: nothing was
    /// changed.
    ///
    /// # Cancel safety
    ///
    /// From its first poll on, dropping it takes nothing back.
    pub async fn remove(&self, id: &str) -> Result<(), FleetError> {
        let (shared, id) = (Arc::clone(&self.0), id.to_owned());
        whole(async move { shared.remove(&id).await }).await
    }

    /// Makes the fleet what its file and template say now. Devices of the API stay.
    ///
    /// # Errors
    ///
    /// [`FleetError`]: the old fleet goes on. Where the pool refused in the middle, what was done
    /// is undone; [`FleetError::HalfDone`] when that failed too.
    ///
    /// # Cancel safety
    ///
    /// From its first poll on, dropping it takes nothing back.
    pub async fn reload(&self, fleet: &config::Fleet) -> Result<Reloaded, FleetError> {
        let (shared, fleet) = (Arc::clone(&self.0), fleet.clone());
        whole(async move { shared.reload(fleet).await }).await
    }

    /// All devices in the pool, by id.
    pub fn list(&self) -> Vec<Entry> {
        self.0.members().iter().map(|member| member.entry.clone()).collect()
    }

    /// One device.
    pub fn get(&self, id: &str) -> Option<Entry> {
        self.0.members().get(id).map(|member| member.entry.clone())
    }
}

impl Shared {
    async fn add(self: Arc<Self>, spec: DeviceSpec) -> Result<(), FleetError> {
        let mut words = self.words.lock().await;
        // One that is left out has its id too: it may come back.
        if self.members().get(&spec.id).is_some() || words.api.contains_key(&spec.id) {
            return Err(FleetError::Exists { id: spec.id });
        }
        let member = Member::new(Origin::Api, &spec, &words.template).map_err(Complaints::one)?;
        self.members().check(&member.entry)?;
        self.pool.check_room(1)?;
        let device = template::build(&member.spec.unpack())?;
        let kept = spec.clone();
        self.store(move |store| store.put(&kept)).await?;
        if let Err(refused) = self.pool.add(device) {
            let id = spec.id.clone();
            return match self.store(move |store| store.remove(&id)).await {
                Ok(()) => Err(refused.into()),
                Err(undo) => Err(FleetError::HalfDone { refused, undo: undo.to_string() }),
            };
        }
        self.members_mut().insert(member)?;
        words.api.insert(spec.id.clone(), spec);
        Ok(())
    }

    async fn remove(self: Arc<Self>, id: &str) -> Result<(), FleetError> {
        let mut words = self.words.lock().await;
        let is_member = match self.members().get(id).map(|member| member.entry.origin) {
            Some(Origin::File) => return Err(FleetError::OfTheFile { id: id.to_owned() }),
            Some(Origin::Api) => true,
            // One that is left out is nobody's session, but can be forgotten.
            None if words.api.contains_key(id) => false,
            None => return Err(FleetError::Unknown { id: id.to_owned() }),
        };
        let forgotten = id.to_owned();
        self.store(move |store| store.remove(&forgotten)).await?;
        words.api.remove(id);
        if is_member {
            self.members_mut().remove(id);
            gone(self.pool.remove(id).await)?;
        }
        Ok(())
    }

    async fn reload(self: Arc<Self>, fleet: config::Fleet) -> Result<Reloaded, FleetError> {
        let mut words = self.words.lock().await;
        if fleet.store != self.store_path {
            let what = "fleet.store cannot change while the daemon runs: restart it";
            return Err(Complaints::one(what).into());
        }
        let (shared, api) = (Arc::clone(&self), words.api.clone());
        let template = fleet.template.clone();
        let work = move || shared.prepare(&fleet, &api);
        let Prepared { old, new, plan, left_out } =
            tokio::task::spawn_blocking(work).await.map_err(|_| FleetError::Ending)??;
        let Plan { steps, added, removed, replaced } = plan;
        if added + replaced > 0 {
            self.pool.check_room(new.len().saturating_sub(old.len()))?;
        }
        if let Err(refused) = self.apply(steps).await {
            return Err(self.undo(&old, refused).await);
        }
        words.template = template;
        let kept = new.len() - added - replaced;
        Ok(Reloaded { added, removed, replaced, kept, left_out })
    }

    /// Everything about a reload that can be refused before anything is changed.
    fn prepare(
        &self,
        fleet: &config::Fleet,
        api: &BTreeMap<String, DeviceSpec>,
    ) -> Result<Prepared, FleetError> {
        let listed = listed(fleet)?;
        let (new, left_out) = Members::assemble(&listed, api, &fleet.template)?;
        let old = self.members().clone();
        let mut complaints = Complaints::default();
        for LeftOut { id, reason, is_in_file } in &left_out {
            // At a start there is nothing to lose; here a session would end that nobody ended.
            if !is_in_file && old.get(id).is_some() {
                complaints.add(None, format_args!("device {id:?} of the API: {reason}"));
            }
        }
        complaints.or(())?;
        let plan = plan(&old, &new);
        Ok(Prepared { old, new, plan, left_out })
    }

    /// Does the steps, and keeps the members at what the pool has.
    async fn apply(&self, steps: Vec<Step>) -> Result<(), pool::Error> {
        let refused = OnceLock::new();
        // Steps of one kind run side by side.
        for same in steps.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
            // After a refusal nothing new begins, but what runs comes to its end: the pool would
            // go on with it anyway, and get into the way of the undoing.
            stream::iter(same.to_vec())
                .take_while(|_: &Step| ready(refused.get().is_none()))
                .map(|step: Step| self.step(step))
                .buffer_unordered(AT_A_TIME)
                .for_each(|done| ready(done.unwrap_or_else(|error| _ = refused.set(error))))
                .await;
        }
        refused.into_inner().map_or(Ok(()), Err)
    }

    async fn step(&self, step: Step) -> Result<(), pool::Error> {
        match step {
            Step::Remove(id) => self.drop_member(&id).await,
            Step::Adopt(member) => {
                let mut members = self.members_mut();
                members.remove(&member.entry.id);
                members.insert(Member::clone(&member)).map(|_| ()).map_err(Into::into)
            }
            Step::Replace(member) => {
                self.drop_member(&member.entry.id).await?;
                self.take_member(&member)
            }
            Step::Add(member) => self.take_member(&member),
        }
    }

    async fn drop_member(&self, id: &str) -> Result<(), pool::Error> {
        self.members_mut().remove(id);
        gone(self.pool.remove(id).await)
    }

    fn take_member(&self, member: &Member) -> Result<(), pool::Error> {
        self.pool.add(template::build(&member.spec.unpack())?)?;
        self.members_mut().insert(member.clone())?;
        Ok(())
    }

    async fn undo(&self, old: &Members, refused: pool::Error) -> FleetError {
        let back = plan(&self.members(), old).steps;
        match self.apply(back).await {
            Ok(()) => refused.into(),
            Err(undo) => FleetError::HalfDone { refused, undo: undo.to_string() },
        }
    }

    /// The store syncs the disk, which the loop must not wait for.
    async fn store(
        &self,
        work: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), FleetError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        Ok(done.map_err(|_| FleetError::Ending)??)
    }

    fn members(&self) -> RwLockReadGuard<'_, Members> {
        // Nothing in there can panic half way, so what is there is whole.
        self.members.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn members_mut(&self) -> RwLockWriteGuard<'_, Members> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file's devices, and a template that was checked.
fn listed(fleet: &config::Fleet) -> Result<Vec<DeviceSpec>, FleetError> {
    let in_template = |error| Complaints::one(format_args!("the fleet's template: {error}"));
    fleet.template.check().map_err(in_template)?;
    match &fleet.file {
        Some(path) => file::load(path, &fleet.template),
        None => Ok(Vec::new()),
    }
}

/// A removal that found nobody to remove has what it wanted.
fn gone(removed: Result<(), pool::Error>) -> Result<(), pool::Error> {
    match removed {
        Err(pool::Error::Caller(CallerError::UnknownDevice(_) | CallerError::Closed)) => Ok(()),
        other => other,
    }
}

/// Runs a change to its end, whoever waits for it.
#[expect(
    clippy::disallowed_methods,
    reason = "awaited right here; a change that is given up half way would leave store and pool \
              at odds"
)]
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, FleetError>> + Send + 'static,
) -> Result<T, FleetError> {
    match tokio::spawn(change).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_the_runtime_ends) => Err(FleetError::Ending),
    }
}

#[cfg(test)]
mod tests;
