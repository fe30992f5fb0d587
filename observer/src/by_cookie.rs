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
    things: Slab<T>,
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
        self.things.get(*self.index.get(&cookie)? as usize)
    }

    pub(crate) fn get_mut(&mut self, cookie: Cookie) -> Option<&mut T> {
        self.things.get_mut(*self.index.get(&cookie)? as usize)
    }

    /// What was there before goes.
    pub(crate) fn insert(&mut self, cookie: Cookie, thing: T) {
        self.remove(cookie);
        let place = self.things.insert(thing);
        let place = u32::try_from(place).expect("invariant: tables are bounded far below 2^32");
        self.index.insert(cookie, place);
    }

    pub(crate) fn remove(&mut self, cookie: Cookie) -> Option<T> {
        let place = self.index.remove(&cookie)?;
        self.things.try_remove(place as usize)
    }

    /// All of them, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.things.iter().map(|(_, thing)| thing)
    }

    /// All of them, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.things.iter_mut().map(|(_, thing)| thing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..20_u64, any::<Option<u8>>()), 0..200)) {
            let mut map = ByCookie::default();
            let mut model = HashMap::new();
            for (cookie, thing) in steps {
                let cookie = Cookie(cookie);
                match thing {
                    Some(thing) => {
                        map.insert(cookie, thing);
                        model.insert(cookie, thing);
                    }
                    None => prop_assert_eq!(map.remove(cookie), model.remove(&cookie)),
                }
                prop_assert_eq!(map.get(cookie), model.get(&cookie));
                prop_assert_eq!(map.get_mut(cookie).copied(), model.get(&cookie).copied());
                prop_assert_eq!(map.contains_key(cookie), model.contains_key(&cookie));
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                let mut values: Vec<_> = map.values().copied().collect();
                let mut changed: Vec<_> = map.values_mut().map(|thing| *thing).collect();
                let mut expected: Vec<_> = model.values().copied().collect();
                values.sort_unstable();
                changed.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(&values, &expected);
                prop_assert_eq!(&changed, &expected);
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
