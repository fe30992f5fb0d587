//! PURE. Which function of a stack is the place to look at, and what cannot be known.

use super::{Frame, Named, unwind::Walked};

/// Libraries between a program and the kernel, by the beginning of their file's name.
const LIBRARIES: [&str; 10] = [
    "[vdso]",
    "ld-linux",
    "ld-musl",
    "ld.so",
    "libc-",
    "libc.",
    "libpthread",
    "libstdc++",
    "libuv.",
    "libgcc_s",
];

/// Functions that belong to the runtime of a language, and not to the program that it is linked
/// into, by the beginning of their name.
const FUNCTIONS: [&str; 38] = [
    // C, where the library is linked in.
    "__GI_",
    "__connect",
    "__internal_syscall",
    "__libc_",
    "__syscall",
    "_dl_",
    "accept",
    "connect",
    "syscall_cp",
    // Rust.
    "<core::",
    "<futures_util::",
    "<hyper::",
    "<mio::",
    "<rumqttc::",
    "<socket2::",
    "<std::",
    "<tokio::",
    "<tokio_rustls::",
    "alloc::",
    "core::",
    "futures_util::",
    "hyper::",
    "hyper_util::",
    "mio::",
    "rustix::",
    "socket2::",
    "std::",
    "tokio::",
    // Go.
    "crypto/tls.",
    "internal/",
    "net.",
    "net/http.",
    "runtime.",
    "syscall.",
    // C++.
    "boost::asio::",
    "std::__1::",
    // JavaScript that is a part of Node: names end with `node:FILE:LINE`.
    "Builtin:",
    "Builtins_",
];

/// A program that runs others: its own functions are never the place.
struct Interpreter {
    /// The beginning of its file's name.
    name: &'static str,
    /// What helps.
    note: &'static str,
}

const INTERPRETERS: [Interpreter; 7] = [
    Interpreter { name: "node", note: NODE },
    Interpreter { name: "libnode", note: NODE },
    Interpreter { name: "python", note: PYTHON },
    Interpreter { name: "libpython", note: PYTHON },
    Interpreter { name: "libjvm", note: JAVA },
    Interpreter { name: "ruby", note: OTHER },
    Interpreter { name: "php", note: OTHER },
];

const NODE: &str = "Node connects after DNS and process.nextTick: the caller is not on the stack. \
    `node --perf-basic-prof --interpreted-frames-native-stack` names the JavaScript frames; the \
    place of the acquire must come from the program (Error().stack)";

/// The same where its JavaScript functions have names.
const NODE_NAMED: &str = "Node connects after DNS and process.nextTick: the caller is not on the \
    stack. The place of the acquire must come from the program (Error().stack)";

const PYTHON: &str = "Python's own functions are not on the stack; from 3.12 on `python3 -X perf` \
    puts them there";

const JAVA: &str = "Java's own functions have no names outside of the JVM; its perf map agent and \
    -XX:+PreserveFramePointer name them";

const OTHER: &str = "it was connected by an interpreter, whose script is not on the stack";

const NO_FRAME_POINTERS: &str = "the callers above are not known: no frame pointers (build with \
    -fno-omit-frame-pointer / -C force-frame-pointers=yes)";

const DOUBTFUL: &str = "the innermost caller may be missing: the file that called the kernel has no \
    unwind table";

const NO_FILES: &str = "the files of the program could not be opened, so that functions have no \
    names and the innermost caller may be missing: sockwarden has no CAP_CHECKPOINT_RESTORE";

const NOT_OWN: &str = "no function of the program itself is on the stack";

/// Puts a stack that was walked together with its names. `is_refused`: files could not be opened.
pub fn judge(frames: Vec<Frame>, walked: &Walked, is_refused: bool) -> Named {
    let interpreter = frames.iter().find_map(|frame| interpreter(frame));
    let is_script = |frame: &Frame| frame.function.as_deref().is_some_and(is_script);
    let has_scripts = frames.iter().any(is_script);
    // The C library calls main and the first function of a thread: above it is nothing.
    let is_whole = !walked.is_cut || frames.len() > 1 && frames.last().is_some_and(is_between);
    let is_own = |frame: &Frame| !is_between(frame) && self::interpreter(frame).is_none();
    let site = frames.iter().position(is_own);
    let note = match (site, interpreter) {
        (None, Some(Interpreter { note: NODE, .. })) if has_scripts => Some(NODE_NAMED),
        (None, Some(interpreter)) => Some(interpreter.note),
        (_, None) if is_refused => Some(NO_FILES),
        (Some(_), _) if walked.is_doubtful => Some(DOUBTFUL),
        (_, None) if !is_whole => Some(NO_FRAME_POINTERS),
        (None, None) => Some(NOT_OWN),
        (Some(_), _) => None,
    };
    let is_doubtful = walked.is_doubtful || is_refused;
    Named { frames, site, is_doubtful, note: note.map(str::to_owned) }
}

fn file_name(frame: &Frame) -> Option<&str> {
    frame.module.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path))
}

fn interpreter(frame: &Frame) -> Option<&'static Interpreter> {
    let name = file_name(frame)?;
    INTERPRETERS.iter().find(|it| {
        let rest = name.strip_prefix(it.name);
        // `node`, `nodejs`, `node20`, `python3.11`; not `node-red-agent`, which is a program.
        rest.is_some_and(|rest| {
            rest == "js" || rest.chars().all(|c| c.is_ascii_digit() || c == '.') || is_library(rest)
        })
    })
}

fn is_library(rest: &str) -> bool {
    rest.contains(".so")
}

/// Whether it stands between the program and the kernel.
fn is_between(frame: &Frame) -> bool {
    let is_library = match file_name(frame) {
        Some(name) => LIBRARIES.iter().any(|library| name.starts_with(library)),
        // Code that was made at run time, without a name: nobody can look at it.
        None => frame.function.is_none(),
    };
    is_library || frame.function.as_deref().is_some_and(is_of_runtime)
}

fn is_of_runtime(function: &str) -> bool {
    let is_nodes =
        || is_script(function) && (function.contains(" node:") || !function.contains('/'));
    FUNCTIONS.iter().any(|prefix| function.starts_with(prefix)) || is_nodes()
}

/// Whether V8 named it as a function of JavaScript.
fn is_script(function: &str) -> bool {
    function.starts_with("JS:") || function.starts_with("LazyCompile:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: &str) -> Frame {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Frame { function: text(function), module: text(module), ..Frame::default() }
    }

    /// Functions with their modules.
    type Frames<'a> = &'a [(&'a str, &'a str)];

    fn judged(frames: Frames<'_>, is_cut: bool, is_doubtful: bool) -> (Option<usize>, String) {
        let frames = frames.iter().map(|(function, module)| frame(function, module)).collect();
        let named = judge(frames, &Walked { is_cut, is_doubtful, ..Walked::default() }, false);
        (named.site, named.note.unwrap_or_default())
    }

    #[test]
    fn the_site_is_the_first_function_of_the_program() {
        let (c, m) = ("/lib/x86_64-linux-gnu/libc.so.6", "/opt/m");
        let cases: [(Frames<'_>, Option<usize>); 9] = [
            (&[("__connect", c), ("lease", m), ("main", m)], Some(1)),
            (&[("", c), ("", m)], Some(1)),
            (&[("connect", "/opt/static"), ("lease", "/opt/static")], Some(1)),
            (
                &[
                    ("__libc_connect", c),
                    ("std::sys::net::connection::socket::Socket::connect", m),
                    ("<std::net::tcp::TcpStream>::connect::<&str>", m),
                    ("agent::pool::Pool::lease", m),
                ],
                Some(3),
            ),
            (
                &[("syscall.Syscall", m), ("net.(*sysDialer).dialTCP", m), ("main.lease", m)],
                Some(2),
            ),
            (&[("accept4", c), ("serve", "/usr/lib/libserver.so.1")], Some(1)),
            (&[("uv__tcp_connect", "/usr/lib/libuv.so.1"), ("x", "/opt/agent")], Some(1)),
            (&[("x", "/opt/node-exporter")], Some(0)),
            (&[("connect", c)], None),
        ];
        for (frames, expected) in cases {
            assert_eq!(judged(frames, false, false).0, expected, "{frames:?}");
        }
    }

    #[test]
    fn node_is_told_honestly() {
        let node = "/usr/bin/node";
        let native = [
            ("__connect", "/lib/libc.so.6"),
            ("uv__tcp_connect", node),
            ("node::TCPWrap::Connect", node),
            ("", ""),
            ("Builtins_InterpreterEntryTrampoline", node),
        ];
        assert_eq!(judged(&native, false, false), (None, NODE.to_owned()));
        let scripts = [
            ("uv__tcp_connect", node),
            ("JS:~internalConnect node:net:1027:25", ""),
            ("JS:~processTicksAndRejections node:internal/process/task_queues:67:35", ""),
        ];
        assert_eq!(judged(&scripts, true, true), (None, NODE_NAMED.to_owned()));
        let own = [("uv__tcp_connect", node), ("JS:*lease /app/pool.js:3:10", "")];
        assert_eq!(judged(&own, false, false), (Some(1), String::new()));
        let python = [("sock_connect", "/usr/bin/python3.11")];
        assert_eq!(judged(&python, false, false), (None, PYTHON.to_owned()));
        let library = [("sock_connect", "/usr/lib/libpython3.12.so.1.0")];
        assert_eq!(judged(&library, false, false), (None, PYTHON.to_owned()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let m = "/opt/m";
        let one = [("lease", m)];
        assert_eq!(judged(&one, true, false), (Some(0), NO_FRAME_POINTERS.to_owned()));
        assert_eq!(judged(&one, true, true), (Some(0), DOUBTFUL.to_owned()));
        let libc = [("connect", "/lib/libc.so.6")];
        assert_eq!(judged(&libc, true, false), (None, NO_FRAME_POINTERS.to_owned()));
        assert_eq!(judged(&libc, false, false), (None, NOT_OWN.to_owned()));
        let whole = [libc[0], one[0], libc[0]];
        assert_eq!(
            judged(&whole, true, false),
            (Some(1), String::new()),
            "it ends where all begin"
        );
        let refused = judge(vec![frame("", m)], &Walked::default(), true);
        assert_eq!((refused.site, refused.note.as_deref()), (Some(0), Some(NO_FILES)));
        assert!(refused.is_doubtful);
        let doubtful = Walked { is_doubtful: true, ..Walked::default() };
        assert!(judge(vec![frame("lease", m)], &doubtful, false).is_doubtful);
        assert!(!judge(vec![frame("lease", m)], &Walked::default(), false).is_doubtful);
        assert_eq!(judged(&[], true, false).0, None);
    }
}
