//! The corpus: small real programs that leak in the ways that users reported, and as many healthy
//! ones that look alike, each under an observer as it comes: default budgets, no config.
//!
//! ```text
//! cases (table) ─▶ run ─▶ program (tests/corpus) ◀── servers, clients (this process, real parts)
//!                   │         ▲ watches
//!                   │     sockwarden watch --json ──▶ findings ─▶ verdict ─▶ report
//! ```
//!
//! The programs speak one word a line. `port N` says where they listen, `ready` that they can be
//! watched; told to go, they make their mistake, and say `leaked` when it is made, or `act` when the
//! other end has to do something for it.

pub mod cases;
mod clients;
mod foreign;
mod lanes;
mod program;
mod report;
mod run;
mod servers;
mod stage;
mod verdict;

pub(crate) use program::node_modules;
pub use report::Report;
pub use run::run;
pub use stage::Stage;

/// A program, what surrounds it, and what is to be found.
#[derive(Debug)]
pub struct Case {
    /// What it is called in the report.
    pub name: &'static str,
    /// What is watched.
    pub start: Start,
    /// Whether its children are watched too.
    pub children: bool,
    /// What it connects to.
    pub server: Option<fn() -> Stage>,
    /// Who connects to it.
    pub clients: Option<fn(u16) -> Stage>,
    /// What has to open; nothing else may.
    pub expects: &'static [Expect],
    /// For how many seconds it is watched, from its start, where nothing has to open.
    pub seconds: u64,
    /// Whether it keeps a processor busy: such cases run one by one.
    pub works: bool,
}

/// How a program is started.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// A script of `tests/corpus/node` with arguments behind the server's port.
    Node(&'static str, &'static [&'static str]),
    /// A script of `tests/corpus/python`.
    Python(&'static str),
    /// A source of `tests/corpus/c`, compiled first.
    C(&'static str),
    /// A binary of this package.
    Rust(&'static str),
    /// A server that is not ours: it knows nothing of us and is ready when it listens.
    Foreign(fn(Option<u16>) -> foreign::Foreign),
}

/// A finding, or several of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// Its code.
    pub kind: &'static str,
    /// How many are opened, at least and at most.
    pub count: (usize, usize),
    /// Whom they have to name, all together.
    pub names: Names,
    /// Within how many seconds after the mistake was made, the budget included.
    pub within: u64,
}

/// Client ids that findings name.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    /// It does not matter.
    Any,
    /// One or more of these, and no others: a list may be cut, or not complete at first.
    Among(&'static [&'static str]),
    /// All of these, and no others.
    Exactly(&'static [&'static str]),
    /// One or more, all of which begin so.
    BeginWith(&'static str),
}
