//! Puts the eBPF object where the library embeds it from.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=SOCKWARDEN_BPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("invariant: cargo sets OUT_DIR"));
    let embedded = out.join("sockwarden.bpf.o");
    let object = match env::var_os("SOCKWARDEN_BPF_OBJECT") {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            Some(path)
        }
        // OUT_DIR lies some levels below the target directory, where `cargo xtask build-ebpf`
        // leaves the object; how many depends on `--target`.
        None => {
            let above = out.ancestors().map(|above| above.join("bpf/sockwarden.bpf.o")).take(7);
            let object = above.into_iter().find(|path| path.exists());
            // Cargo takes a path that does not exist for one that has changed, and would compile
            // the crate again each time: only where there is no object at all is that wanted.
            let watched = object.clone().unwrap_or_else(|| out.join("no-object-yet"));
            println!("cargo::rerun-if-changed={}", watched.display());
            object
        }
    };
    match object.map(fs::read) {
        Some(Ok(bytes)) => {
            fs::write(embedded, bytes).expect("invariant: OUT_DIR can be written");
        }
        Some(Err(error)) => println!("cargo::error=the eBPF object cannot be read: {error}"),
        None => {
            // The pure cores build and test without it, so this is no error; `sockwarden watch`
            // says the same sentence.
            fs::write(embedded, []).expect("invariant: OUT_DIR can be written");
            println!(
                "cargo::warning=built without the eBPF object: run `cargo xtask build`, which \
                 makes it and builds again"
            );
        }
    }
}
