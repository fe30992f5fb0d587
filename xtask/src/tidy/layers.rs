//! What may be written where: aya only at the probe, `unsafe` only where the kernel is touched.

use super::workspace::File;
use super::{Report, code};

/// A word that is at home in a few places only.
struct Rule {
    words: &'static [&'static str],
    /// Path prefixes.
    at_home: &'static [&'static str],
    advice: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        words: &["aya", "aya_obj", "aya_log", "aya_ebpf", "aya_log_ebpf"],
        at_home: &["observer-ebpf/", "observer/src/probe/", "observer/src/probe.rs"],
        advice: "aya stays behind observer/src/probe: give the probe a function and call that",
    },
    Rule {
        words: &["unsafe"],
        at_home: &["observer-ebpf/", "observer/src/kernel/", "observer/src/kernel.rs"],
        advice: "unsafe code stays in observer/src/kernel: give that module a safe function",
    },
];

pub(super) fn check(sources: &[File]) -> Report {
    let broken = |rule: &'static Rule| {
        let elsewhere = sources.iter().filter(|file| !is_at_home(rule, &file.path));
        elsewhere.flat_map(move |file| {
            let lines = code::lines_with(&file.text, rule.words).into_iter();
            lines.map(move |line| format!("{}:{line}: {}", file.path, rule.advice))
        })
    };
    Report {
        note: format!("{} rules over {} files", RULES.len(), sources.len()),
        complaints: RULES.iter().flat_map(broken).collect(),
    }
}

fn is_at_home(rule: &Rule, path: &str) -> bool {
    rule.at_home.iter().any(|home| path.starts_with(home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_one(path: &str, text: &str, complaints: usize) {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        assert_eq!(check(&[file]).complaints.len(), complaints, "{path}: {text}");
    }

    #[test]
    fn aya_is_at_home_at_the_probe_only() {
        check_one("observer/src/probe/ring.rs", "use aya::maps::RingBuf;", 0);
        check_one("observer/src/decode.rs", "use aya::maps::RingBuf;", 1);
        check_one("pool/src/lib.rs", "fn f() { aya_obj::x() }", 1);
        check_one("pool/src/lib.rs", "// The observer's aya is not ours.", 0);
    }

    #[test]
    fn unsafe_is_at_home_at_the_kernel_only() {
        check_one("observer/src/kernel/id.rs", "unsafe { f() }", 0);
        check_one("observer/src/kernel.rs", "unsafe { f() }", 0);
        check_one("observer/src/kernels.rs", "unsafe { f() }", 1);
    }
}
