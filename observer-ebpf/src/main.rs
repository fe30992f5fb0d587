//! The eBPF program of sockwarden: one line per hook. `ARCHITECTURE.md` has the picture.
//!
//! Built by `cargo xtask build-ebpf` for `bpfel-unknown-none`; never for a host.

#![no_std]
#![no_main]
// For the two instructions in `atomic`. Debian's compiler takes it with RUSTC_BOOTSTRAP, as
// aya-ebpf's own use of it.
#![feature(asm_experimental_arch)]

mod atomic;
mod emit;
mod hooks;
mod maps;
mod process;
mod sock;
mod watch;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can reach this loop, so none does.
    loop {}
}

// tp_btf and the helpers we use are for GPL-compatible programs only. "Dual MIT/GPL" is the
// kernel's own name for our terms (include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
