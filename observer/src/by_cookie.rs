//! PURE. Things by cookie, one beside the other in memory.
//!
//! A look at all of them goes through memory from its beginning to its end, and what is looked up
//! by cookie is found in a small index. With each thing in a box of its own, or in the hash table
//! itself, a snapshot of 15,000 sockets took twice as long: nearly every step missed the caches.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use slab::Slab;

use crate::model::Cookie;

/// A map from cookies. What was removed leaves its room to what comes next.
#[derive(Debug)]
pub(crate) struct ByCookie<T> {
    index: HashMap<Cookie, u32, Numbered>,
    things: Slab<(Cookie, T)>,
}

/// For maps from numbers that the kernel gives out one after the other: neighbours among the
/// numbers are neighbours in the map. Whoever wants many of them to collide has to use up 65,536
/// for each, and all that he gets is a slower look.
pub(crate) type Numbered = BuildHasherDefault<Neighbours>;

/// See [`Numbered`].
#[derive(Debug, Default)]
pub(crate) struct Neighbours(u64);

impl Hasher for Neighbours {
    fn finish(&self) -> u64 {
        // The low bits choose the place, and the high seven tell apart what stands near it.
        self.0.wrapping_mul(1 << 57 | 1)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 ^= u64::from(number);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }
}

impl<T> Default for ByCookie<T> {
    fn default() -> Self {
        Self { index: HashMap::default(), things: Slab::new() }
    }
}

impl<T> ByCookie<T> {
    pub(crate) fn len(&self) -> usize {
        self.things.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    pub(crate) fn contains_key(&self, cookie: Cookie) -> bool {
        self.index.contains_key(&cookie)
    }

    pub(crate) fn get(&self, cookie: Cookie) -> Option<&T> {
        let (_, thing) = self.things.get(*self.index.get(&cookie)? as usize)?;
        Some(thing)
    }

    pub(crate) fn get_mut(&mut self, cookie: Cookie) -> Option<&mut T> {
        let (_, thing) = self.things.get_mut(*self.index.get(&cookie)? as usize)?;
        Some(thing)
    }

    /// What there is, or what `make` makes.
    pub(crate) fn get_or_insert_with(
        &mut self,
        cookie: Cookie,
        make: impl FnOnce() -> T,
    ) -> &mut T {
        let place = *self.index.entry(cookie).or_insert_with(|| {
            let place = self.things.insert((cookie, make()));
            u32::try_from(place).expect("invariant: tables are bounded far below 2^32")
        });
        &mut self.things[place as usize].1
    }

    /// What was there before goes.
    pub(crate) fn insert(&mut self, cookie: Cookie, thing: T) {
        self.remove(cookie);
        self.get_or_insert_with(cookie, || thing);
    }

    pub(crate) fn remove(&mut self, cookie: Cookie) -> Option<T> {
        let place = self.index.remove(&cookie)?;
        self.things.try_remove(place as usize).map(|(_, thing)| thing)
    }

    /// Those for which `stays` says no go.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        let Self { index, things } = self;
        things.retain(|_, (cookie, thing)| {
            let stays = stays(thing);
            if !stays {
                index.remove(cookie);
            }
            stays
        });
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Cookie, &T)> {
        self.things.iter().map(|(_, (cookie, thing))| (*cookie, thing))
    }

    /// All of them, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Cookie, &mut T)> {
        self.things.iter_mut().map(|(_, (cookie, thing))| (*cookie, thing))
    }

    /// All of them, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, thing)| thing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u64, u8),
        GetOrInsert(u64, u8),
        Add(u64, u8),
        Remove(u64),
        RetainBelow(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let cookie = || 0..20_u64;
        let step = prop_oneof![
            4 => (cookie(), any::<u8>()).prop_map(|(cookie, thing)| Step::Insert(cookie, thing)),
            2 => (cookie(), any::<u8>()).prop_map(|(cookie, thing)| Step::GetOrInsert(cookie, thing)),
            2 => (cookie(), any::<u8>()).prop_map(|(cookie, more)| Step::Add(cookie, more)),
            3 => cookie().prop_map(Step::Remove),
            1 => any::<u8>().prop_map(Step::RetainBelow),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in steps()) {
            let mut map = ByCookie::default();
            let mut model = HashMap::new();
            for step in steps {
                match step {
                    Step::Insert(cookie, thing) => {
                        map.insert(Cookie(cookie), thing);
                        model.insert(cookie, thing);
                    }
                    Step::GetOrInsert(cookie, thing) => {
                        let found = *map.get_or_insert_with(Cookie(cookie), || thing);
                        prop_assert_eq!(found, *model.entry(cookie).or_insert(thing));
                    }
                    Step::Add(cookie, more) => {
                        let add = |it: &mut u8| *it = it.wrapping_add(more);
                        let was_there = map.get_mut(Cookie(cookie)).map(add).is_some();
                        prop_assert_eq!(was_there, model.get_mut(&cookie).map(add).is_some());
                    }
                    Step::Remove(cookie) => {
                        prop_assert_eq!(map.remove(Cookie(cookie)), model.remove(&cookie));
                    }
                    Step::RetainBelow(least) => {
                        map.retain(|thing| *thing < least);
                        model.retain(|_, thing| *thing < least);
                    }
                }
                for cookie in 0..20 {
                    prop_assert_eq!(map.get(Cookie(cookie)), model.get(&cookie));
                    prop_assert_eq!(map.contains_key(Cookie(cookie)), model.contains_key(&cookie));
                }
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                let mut all: Vec<_> = map.iter().map(|(cookie, thing)| (cookie.0, *thing)).collect();
                let mut changed: Vec<_> =
                    map.iter_mut().map(|(cookie, thing)| (cookie.0, *thing)).collect();
                let mut expected: Vec<_> = model.clone().into_iter().collect();
                all.sort_unstable();
                changed.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(&all, &expected);
                prop_assert_eq!(&changed, &expected);
                prop_assert_eq!(map.values().count(), expected.len());
            }
        }
    }

    #[test]
    fn what_was_removed_leaves_its_room() {
        let mut map = ByCookie::default();
        for cookie in 0..10_000 {
            map.insert(Cookie(cookie), cookie);
            map.remove(Cookie(cookie));
        }
        assert!(map.things.capacity() < 10);
    }
}
