//! Where in its program a leaked socket was opened: the call stack of its connect(2) or accept(2).
//!
//! ```text
//! kernel ─ring─▶ decode ─▶ traces ─jobs─▶ worker ─▶ namer ─▶ opener
//!                PURE      PURE ◀─names── (thread)  (process, (process, opens files of others,
//!                             │                     no rights) parses nothing)
//!   observer ◀── site ────────┘
//! ```
//!
//! Stacks cost, so they are taken of a process only when it is [`armed`]. Files of foreign programs
//! are untrusted: they are read by the [`namer`], a process that may do nothing and may die of them.
//! The [`opener`] may open them, and never looks inside. See docs/adr/0009.

pub mod armed;
pub mod frame;
pub mod groups;
pub mod image;
pub mod maps;
pub mod namer;
pub mod opener;
pub mod perf_map;
pub mod site;
pub mod traces;
pub mod unwind;
pub mod worker;

pub use frame::{Frame, Named};
pub use groups::Group;

use crate::model::{Cookie, ProcessKey};

/// Of whom call stacks are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Of nobody; no other process is started for it.
    #[default]
    Never,
    /// Of a process with a finding that opened, from then on.
    OnDemand,
    /// Of every watched process, from the start.
    Always,
}

/// A call stack as the kernel took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The socket that was connected or accepted.
    pub cookie: Cookie,
    /// The process that did it.
    pub process: ProcessKey,
    /// The instruction after the system call, then return addresses by frame pointers, the
    /// innermost first.
    pub chain: Vec<u64>,
    /// What the stack held.
    pub top: Top,
}

/// The innermost words of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// Address of the first word.
    pub stack_pointer: u64,
    /// The words; none where they could not be read.
    pub words: Vec<u64>,
}
