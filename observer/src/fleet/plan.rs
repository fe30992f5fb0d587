//! PURE. What has to happen to a fleet so that it becomes another one.

use std::sync::Arc;

use super::members::{Member, Members};

/// One change. Steps of the same kind do not depend on each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes, or gives its client id away and comes back at the end.
    Remove(Arc<str>),
    /// The same device, that now comes from elsewhere.
    Adopt(Arc<Member>),
    /// It goes and comes back at once, under the client id that it had.
    Replace(Arc<Member>),
    /// It comes.
    Add(Arc<Member>),
}

/// All changes, in order, and how many devices they are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Removals, then adoptions, then replacements, then additions.
    pub(super) steps: Vec<Step>,
    /// New devices.
    pub(super) added: usize,
    /// Devices that are gone.
    pub(super) removed: usize,
    /// Devices that changed.
    pub(super) replaced: usize,
}

/// The way from `old` to `new`.
///
/// A client id is free before its next owner comes: two devices may swap theirs.
pub(super) fn plan(old: &Members, new: &Members) -> Plan {
    let mut plan = Plan::default();
    let (mut adoptions, mut replacements, mut additions) = (Vec::new(), Vec::new(), Vec::new());
    for member in old.iter() {
        let id = &member.entry.id;
        match new.get(id) {
            None => {
                plan.removed += 1;
                plan.steps.push(Step::Remove(Arc::clone(id)));
            }
            Some(next) if next == member => {}
            Some(next) if next.spec == member.spec => {
                adoptions.push(Step::Adopt(Arc::clone(next)));
            }
            Some(next) => {
                plan.replaced += 1;
                if next.entry.client_id == member.entry.client_id {
                    replacements.push(Step::Replace(Arc::clone(next)));
                } else {
                    plan.steps.push(Step::Remove(Arc::clone(id)));
                    additions.push(Step::Add(Arc::clone(next)));
                }
            }
        }
    }
    for member in new.iter().filter(|member| old.get(&member.entry.id).is_none()) {
        plan.added += 1;
        additions.push(Step::Add(Arc::clone(member)));
    }
    plan.steps.extend(adoptions.into_iter().chain(replacements).chain(additions));
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection, prelude::*};

    use super::*;
    use crate::fleet::{DeviceSpec, Origin, Template};

    fn fleet(devices: &[(Origin, &str, &str, u16)]) -> Members {
        let mut members = Members::default();
        for (origin, id, client_id, keep_alive) in devices {
            let spec = DeviceSpec {
                id: (*id).into(),
                client_id: Some((*client_id).into()),
                keep_alive_s: Some(*keep_alive),
                ..DeviceSpec::default()
            };
            let member = Member::new(*origin, &spec, &Template::default());
            let member = member.expect("invariant: nothing is wrong with it");
            // Chance may give one client id to two: the second is no part of the fleet.
            let _clash = members.insert(member);
        }
        members
    }

    /// What the roster does, without a pool. Client ids and names are checked at each step.
    fn carry_out(mut members: Members, steps: &[Step]) -> Members {
        for step in steps {
            match step {
                Step::Remove(id) => assert!(members.remove(id).is_some(), "{id}"),
                Step::Adopt(member) => {
                    let old = members.remove(&member.entry.id).expect("invariant: it is there");
                    assert_eq!(old.spec, member.spec);
                    members.insert(Member::clone(member)).expect("its place is free");
                }
                Step::Replace(member) => {
                    members.remove(&member.entry.id).expect("invariant: it is there");
                    members.insert(Member::clone(member)).expect("its place is free");
                }
                Step::Add(member) => {
                    members.insert(Member::clone(member)).expect("its place is free");
                }
            }
        }
        members
    }

    #[test]
    fn a_fleet_that_is_the_same_needs_nothing() {
        let fleet = fleet(&[(Origin::File, "a", "a", 1), (Origin::Api, "b", "x", 1)]);
        assert_eq!(plan(&fleet, &fleet), Plan::default());
    }

    #[test]
    fn each_change_has_its_step_and_is_counted() {
        let old = fleet(&[
            (Origin::File, "changed", "c", 1),
            (Origin::File, "gone", "g", 1),
            (Origin::File, "kept", "k", 1),
            (Origin::Api, "listed", "l", 1),
        ]);
        let new = fleet(&[
            (Origin::File, "changed", "c", 2),
            (Origin::File, "kept", "k", 1),
            (Origin::File, "listed", "l", 1),
            (Origin::File, "new", "g", 1),
        ]);
        let Plan { steps, added, removed, replaced } = plan(&old, &new);
        assert_eq!((added, removed, replaced), (1, 1, 1));
        let member = |id: &str| Arc::clone(new.get(id).expect("invariant: it is there"));
        let expected = [
            Step::Remove("gone".into()),
            Step::Adopt(member("listed")),
            Step::Replace(member("changed")),
            Step::Add(member("new")),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn client_ids_may_be_swapped() {
        let old = fleet(&[(Origin::File, "a", "x", 1), (Origin::File, "b", "y", 1)]);
        let new = fleet(&[(Origin::File, "a", "y", 1), (Origin::File, "b", "x", 1)]);
        let plan = plan(&old, &new);
        assert_eq!((plan.added, plan.removed, plan.replaced), (0, 0, 2));
        assert_eq!(carry_out(old, &plan.steps), new);
    }

    fn any_fleet() -> impl Strategy<Value = Members> {
        let origin = prop_oneof![Just(Origin::File), Just(Origin::Api)];
        let device = (origin, 0..8u8, 0..3u16);
        collection::btree_map(0..8u8, device, 0..8).prop_map(|devices: BTreeMap<_, _>| {
            let devices: Vec<_> = devices
                .into_iter()
                .map(|(id, (origin, client, keep))| {
                    (origin, id.to_string(), client.to_string(), keep)
                })
                .collect();
            let devices: Vec<_> = devices
                .iter()
                .map(|(origin, id, client, keep)| (*origin, id.as_str(), client.as_str(), *keep))
                .collect();
            fleet(&devices)
        })
    }

    proptest! {
        #[test]
        fn the_plan_leads_from_any_fleet_to_any_other(old in any_fleet(), new in any_fleet()) {
            let plan = plan(&old, &new);
            prop_assert_eq!(old.len() + plan.added, new.len() + plan.removed);
            prop_assert!(plan.replaced <= old.len().min(new.len()));
            let same = |id: &str| old.get(id) == new.get(id);
            for step in &plan.steps {
                let id = match step {
                    Step::Remove(id) => id,
                    Step::Adopt(member) | Step::Replace(member) | Step::Add(member) => {
                        &member.entry.id
                    }
                };
                prop_assert!(!same(id), "{id} is touched for nothing");
            }
            prop_assert_eq!(carry_out(old, &plan.steps), new);
        }
    }
}
