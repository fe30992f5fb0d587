//! Call stacks.

use observer_ebpf::record::{STACK_DEPTH, STACK_WORDS, StackTaken, kind};

use super::Fields;
use crate::{
    model::ProcessKey,
    stacks::{Taken, Top},
};

/// A call stack; `None` for other records. One that is damaged is one of those, and no record.
pub fn stack(bytes: &[u8]) -> Option<Taken> {
    let mut fields = Fields(bytes);
    if bytes.len() != size_of::<StackTaken>() || fields.u32() != kind::STACK {
        return None;
    }
    let (pid, _time) = (fields.u32(), fields.u64());
    let cookie = super::cookie(fields.u64()).ok()?;
    let (start_ns, stack_pointer) = (fields.u64(), fields.u64());
    let (depth, words) = (fields.u32() as usize, fields.u32() as usize);
    let mut take = |count: usize, most: usize| -> Vec<u64> {
        let all: Vec<u64> = (0..most).map(|_| fields.u64()).collect();
        all.into_iter().take(count).collect()
    };
    let chain = take(depth, STACK_DEPTH);
    let top = Top { stack_pointer, words: take(words, STACK_WORDS) };
    Some(Taken { cookie, process: ProcessKey { pid, start_ns }, chain, top })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Cookie;

    fn bytes(kind: u32, cookie: u64, depth: u32, words: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = [kind, 4_711].into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend([1, cookie, 99, 0x7ffc].into_iter().flat_map(u64::to_ne_bytes));
        bytes.extend([depth, words].into_iter().flat_map(u32::to_ne_bytes));
        bytes.extend((0..(STACK_DEPTH + STACK_WORDS) as u64).flat_map(u64::to_ne_bytes));
        bytes
    }

    #[test]
    fn a_stack_has_its_frames_and_words() {
        let taken = stack(&bytes(kind::STACK, 7, 3, 2)).expect("it is one");
        let first = STACK_DEPTH as u64;
        let expected = Taken {
            cookie: Cookie(7),
            process: ProcessKey { pid: 4_711, start_ns: 99 },
            chain: vec![0, 1, 2],
            top: Top { stack_pointer: 0x7ffc, words: vec![first, first + 1] },
        };
        assert_eq!(taken, expected);
        let full = stack(&bytes(kind::STACK, 7, u32::MAX, u32::MAX)).expect("it is one");
        assert_eq!((full.chain.len(), full.top.words.len()), (STACK_DEPTH, STACK_WORDS));
    }

    #[test]
    fn what_is_no_stack_is_none() {
        let good = bytes(kind::STACK, 7, 3, 2);
        assert_eq!(stack(&good[1..]), None);
        assert_eq!(stack(&bytes(kind::STATE, 7, 3, 2)), None);
        assert_eq!(stack(&bytes(kind::STACK, 0, 3, 2)), None, "every socket has a cookie");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_stack_or_none(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _any = stack(&bytes);
        }
    }
}
