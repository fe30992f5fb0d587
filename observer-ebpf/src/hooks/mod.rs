//! One hook a file. Each says its kernel prototype, its first kernel and its layer.

mod accept;
mod close;
mod destroy;
mod names;
mod process;
mod retransmit;
mod snapshot;
mod stacks;
mod state;
mod syscall;
