//! PURE. From what the kernel took of a stack to the functions that were really on it.
//!
//! The kernel's walk by frame pointers begins with the register as it is. The C library keeps no
//! frame pointers, so that the walk misses whoever called connect(2): the call site itself. So the
//! innermost frames are walked by the unwind tables of the files, over the words that were taken,
//! until a function that keeps a frame pointer: from there on the kernel's walk is right.

use super::Top;

/// Frames by unwind tables, at most. Chosen: the words cannot hold more.
const MOST: usize = 64;

/// What the unwind table says of a place in a function (System V ABI, AMD64, 3.7: the canonical
/// frame address is the stack pointer before the call, and the return address lies below it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// By which register the canonical frame address is found.
    pub by: Register,
    /// What is added to it, bytes.
    pub cfa: i64,
    /// Where the caller's frame pointer was saved, from the canonical frame address, if it was.
    pub saved_base: Option<i64>,
}

/// A register of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The stack pointer.
    Stack,
    /// The frame pointer.
    Base,
}

/// A stack that was walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// An address in each function, the innermost first: the first is where the kernel was entered,
    /// the others are where calls return to.
    pub frames: Vec<u64>,
    /// The words of the stack that it rests on.
    pub used: Vec<Used>,
    /// Whether it may go on, and how is not known.
    pub is_cut: bool,
    /// Whether the innermost caller may be missing.
    pub is_doubtful: bool,
}

/// A word that a walk rests on. Another stack of the same chain, with the same values there, is the
/// same stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Which word.
    pub index: usize,
    /// Whether it is an address of the stack, and only its distance from the stack pointer counts.
    pub is_relative: bool,
}

/// The frame pointer at some frame.
#[derive(Clone, Copy)]
enum Base {
    /// As it was in the system call: the kernel followed it.
    AsEntered,
    /// A function had put it away, and it was found.
    Restored(u64),
    /// Not known.
    Lost,
}

impl Top {
    /// The index of the word at `address`.
    fn index(&self, address: u64) -> Option<usize> {
        let distance = address.checked_sub(self.stack_pointer)?;
        let index = usize::try_from(distance / 8).ok()?;
        (distance % 8 == 0 && index < self.words.len()).then_some(index)
    }

    /// The value of a word that a walk rests on.
    pub fn value(&self, used: Used) -> Option<u64> {
        let word = *self.words.get(used.index)?;
        Some(if used.is_relative { word.wrapping_sub(self.stack_pointer) } else { word })
    }
}

/// Walks a stack. `rule` knows the unwind tables, by address; `is_code` knows where code can run.
pub fn walk(
    chain: &[u64],
    top: &Top,
    mut rule: impl FnMut(u64) -> Option<Rule>,
    is_code: impl Fn(u64) -> bool,
) -> Walked {
    let Some((&entered, callers)) = chain.split_first() else { return Walked::default() };
    let mut walked = Walked { frames: vec![entered], ..Walked::default() };
    let (mut stack, mut base) = (top.stack_pointer, Base::AsEntered);
    let mut inside = entered;
    while walked.frames.len() < MOST {
        let Some(Rule { by, cfa, saved_base }) = rule(inside) else { break };
        let from = match (by, base) {
            (Register::Stack, _) => stack,
            (Register::Base, Base::Restored(base)) => base,
            (Register::Base, Base::AsEntered) => {
                follow(&mut walked, callers, is_code);
                return walked;
            }
            (Register::Base, Base::Lost) => break,
        };
        let frame = from.wrapping_add_signed(cfa);
        let Some(index) = top.index(frame.wrapping_sub(8)) else { break };
        let returns_to = top.words[index];
        if !is_code(returns_to) {
            break;
        }
        walked.used.push(Used { index, is_relative: false });
        if let Some(offset) = saved_base {
            let saved = top.index(frame.wrapping_add_signed(offset));
            base = saved.map_or(Base::Lost, |index| Base::Restored(top.words[index]));
            walked.used.extend(saved.map(|index| Used { index, is_relative: true }));
        }
        walked.frames.push(returns_to);
        stack = frame;
        // A call may be the last instruction of its function: look where it is, not behind it.
        inside = returns_to.wrapping_sub(1);
    }
    if walked.frames.len() == 1 {
        walked.is_doubtful = true;
        follow(&mut walked, callers, is_code);
    } else {
        walked.is_cut = true;
    }
    walked
}

/// Goes on by frame pointers, as the kernel did, while that leads to code.
fn follow(walked: &mut Walked, callers: &[u64], is_code: impl Fn(u64) -> bool) {
    let real = callers.iter().take_while(|address| is_code(**address));
    let before = walked.frames.len();
    walked.frames.extend(real);
    walked.is_cut = walked.frames.len() == before || walked.frames.len() - before < callers.len();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SP: u64 = 0x7ffc_0000_0000;
    /// Addresses of functions: libc's connect, and three of a program.
    const CONNECT: u64 = 0x7f00_0000_1000;
    const LEASE: u64 = 0x40_1010;
    const ACQUIRE: u64 = 0x40_2010;
    const MAIN: u64 = 0x40_3010;

    fn is_code(address: u64) -> bool {
        (0x40_0000..0x50_0000).contains(&address) || address >> 32 == 0x7f00
    }

    fn top(words: &[(usize, u64)]) -> Top {
        let mut all = vec![0; 16];
        for (index, word) in words {
            all[*index] = *word;
        }
        Top { stack_pointer: SP, words: all }
    }

    fn by_stack(cfa: i64) -> Option<Rule> {
        Some(Rule { by: Register::Stack, cfa, saved_base: None })
    }

    const BY_BASE: Option<Rule> = Some(Rule { by: Register::Base, cfa: 16, saved_base: Some(-16) });

    #[test]
    fn the_caller_of_a_function_without_a_frame_pointer_is_found() {
        // connect() is a leaf; lease() keeps a frame pointer, so the kernel knows who called it.
        let rule = |at: u64| if at == CONNECT { by_stack(8) } else { BY_BASE };
        let walked = walk(&[CONNECT, ACQUIRE, MAIN], &top(&[(0, LEASE)]), rule, is_code);
        assert_eq!(walked.frames, [CONNECT, LEASE, ACQUIRE, MAIN]);
        assert_eq!(walked.used, [Used { index: 0, is_relative: false }]);
        assert!(!walked.is_cut && !walked.is_doubtful);
    }

    #[test]
    fn without_any_frame_pointer_the_words_are_walked_to_their_end() {
        let rule = |at: u64| by_stack(if at == CONNECT { 8 } else { 32 });
        let words = top(&[(0, LEASE), (4, ACQUIRE), (8, MAIN)]);
        let walked = walk(&[CONNECT], &words, rule, is_code);
        assert_eq!(walked.frames, [CONNECT, LEASE, ACQUIRE, MAIN]);
        assert!(walked.is_cut, "what called main is no code here");
        let beyond = |at: u64| by_stack(if at == CONNECT { 8 } else { 4_096 });
        let walked = walk(&[CONNECT], &words, beyond, is_code);
        assert_eq!((walked.frames.len(), walked.is_cut), (2, true));
    }

    #[test]
    fn a_frame_pointer_that_was_put_away_is_taken_back() {
        // connect() of a program with threads saves rbp and uses it for something else, so that the
        // kernel followed nonsense; lease() needs it.
        let saves = Some(Rule { by: Register::Stack, cfa: 24, saved_base: Some(-16) });
        let rule = |at: u64| if at == CONNECT { saves } else { BY_BASE };
        let nonsense = 0x40_4444;
        let words = top(&[(1, SP + 64), (2, LEASE), (9, ACQUIRE), (8, SP + 4_096)]);
        let walked = walk(&[CONNECT, nonsense], &words, rule, is_code);
        assert_eq!(walked.frames, [CONNECT, LEASE, ACQUIRE]);
        assert!(walked.is_cut);
        let relative: Vec<usize> =
            walked.used.iter().filter(|used| used.is_relative).map(|used| used.index).collect();
        assert_eq!(relative, [1, 8]);
        // Saved where nobody knows what was there.
        let far = Some(Rule { by: Register::Stack, cfa: 24, saved_base: Some(-4_096) });
        let rule = |at: u64| if at == CONNECT { far } else { BY_BASE };
        let walked = walk(&[CONNECT, nonsense], &words, rule, is_code);
        assert_eq!((&*walked.frames, walked.is_cut), (&[CONNECT, LEASE][..], true));
    }

    #[test]
    fn without_unwind_tables_the_kernels_word_is_taken_with_doubt() {
        let walked = walk(&[CONNECT, ACQUIRE, 0x1234, MAIN], &top(&[]), |_| None, is_code);
        assert_eq!(walked.frames, [CONNECT, ACQUIRE]);
        assert!(walked.is_doubtful && walked.is_cut);
        let alone = walk(&[CONNECT], &top(&[]), |_| None, is_code);
        assert!(alone.is_cut, "{alone:?}");
        assert_eq!(walk(&[], &top(&[]), |_| None, is_code), Walked::default());
    }

    #[test]
    fn a_function_is_looked_up_where_it_calls_and_not_where_that_returns_to() {
        // A call that never returns ends its function: behind it another one begins.
        let rule = |at: u64| match at {
            CONNECT => by_stack(8),
            _ if at == LEASE - 1 => by_stack(16),
            _ => None,
        };
        let walked = walk(&[CONNECT], &top(&[(0, LEASE), (2, ACQUIRE)]), rule, is_code);
        assert_eq!(walked.frames, [CONNECT, LEASE, ACQUIRE]);
    }

    #[test]
    fn what_is_no_code_is_no_caller() {
        let rule = |_| by_stack(8);
        let walked = walk(&[CONNECT], &top(&[(0, 0x1234)]), rule, is_code);
        assert_eq!(walked.frames, [CONNECT]);
    }

    proptest! {
        #[test]
        fn any_stack_is_walked(
            chain in prop::collection::vec(any::<u64>(), 0..40),
            stack_pointer: u64,
            words in prop::collection::vec(any::<u64>(), 0..40),
            cfa in -64i64..64,
            saved in prop::option::of(any::<i64>()),
            by_base: bool,
        ) {
            let by = if by_base { Register::Base } else { Register::Stack };
            let rule = Some(Rule { by, cfa, saved_base: saved });
            let top = Top { stack_pointer, words };
            let walked = walk(&chain, &top, |_| rule, |_| true);
            prop_assert!(walked.frames.len() <= MOST + chain.len());
            prop_assert!(walked.used.iter().all(|used| top.value(*used).is_some()));
        }
    }
}
