//! The guest's whole file system: busybox, the binary with its libraries, and an init script.

use super::console;
use crate::failure::{OrFail as _, Result};
use crate::sh;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const NEXT: &str = "check that the target directory can be written and has 100 MB left";

/// What the guest runs, in this order: each a name and a command line.
pub(super) const STEPS: &[(&str, &str)] = &[
    ("watch", "sockwarden watch --all --for 3s --no-transitions"),
    ("demo", "sockwarden demo --quick"),
];

/// Builds the file system in `dir/root` and packs it.
pub(super) fn pack(dir: &Path, binary: &Path) -> Result<PathBuf> {
    super::remove(dir)?;
    let root = dir.join("root");
    for part in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin"] {
        make_dir(&root.join(part))?;
    }
    for dir in [&root, &root.join("root"), &root.join("run")] {
        set_mode(dir, 0o755)?;
    }
    set_mode(&root.join("tmp"), 0o1777)?;

    let busybox = sh::find("busybox").unwrap_or_else(|| "/bin/busybox".into());
    copy(&busybox, &root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sh")).or_fail("bin/sh", NEXT)?;
    write(
        &root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    )?;
    write(&root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    write(&root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    write(&root.join("init"), &init())?;
    set_mode(&root.join("init"), 0o755)?;

    let inside = root.join("usr/bin/sockwarden");
    let strip = ["-o".as_ref(), inside.as_os_str(), binary.as_os_str()];
    sh::output(Command::new("strip").args(strip), "run `cargo xtask setup --with vm`")?;
    for library in libraries(&sh::output(Command::new("ldd").arg(binary), NEXT)?) {
        let place = root.join(library.trim_start_matches('/'));
        make_dir(place.parent().unwrap_or(&root))?;
        copy(Path::new(library), &place)?;
    }

    let initrd = dir.join("initrd.gz");
    let script = "find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > \"$0\"";
    let mut pack = Command::new("sh");
    pack.args(["-c", script]).arg(&initrd).current_dir(&root);
    sh::output(&mut pack, NEXT)?;
    Ok(initrd)
}

/// The guest's first program. It leaves tracefs alone: mounting that is the binary's own work.
fn init() -> String {
    let steps: String = STEPS
        .iter()
        .map(|(name, command)| {
            let begin = console::begin(name);
            let end = console::end(name, "$code", "$seconds");
            format!(
                "\necho \"{begin}\"\nstart=$(now)\n{command}\ncode=$?\n\
                 seconds=$(awk \"BEGIN {{ print $(now) - $start }}\")\necho; echo \"{end}\"\n"
            )
        })
        .collect();
    format!(
        r#"#!/bin/sh
export PATH=/bin:/usr/bin HOME=/root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec </dev/console >/dev/console 2>&1
ip link set lo up
# The first program of a system starts with room for 1,024 descriptors only.
ulimit -n 65536
now() {{ cut -d ' ' -f 1 /proc/uptime; }}
echo "Linux $(uname -r), $(now) s after its start"
{steps}
echo "{done}"
poweroff -f
"#,
        done = console::DONE
    )
}

/// The files that `ldd` names.
fn libraries(ldd: &str) -> Vec<&str> {
    let words = ldd.lines().flat_map(|line| line.split_whitespace().find(|it| it.starts_with('/')));
    words.collect()
}

fn make_dir(dir: &Path) -> Result {
    fs::create_dir_all(dir).or_fail(dir.display(), NEXT)
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::copy(from, to).or_fail(format!("{} to {}", from.display(), to.display()), NEXT)?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result {
    fs::write(path, text).or_fail(path.display(), NEXT)
}

fn set_mode(path: &Path, mode: u32) -> Result {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).or_fail(path.display(), NEXT)
}

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn the_loader_and_the_libraries_are_named_and_the_vdso_is_not() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(ldd), expected);
    }
}
