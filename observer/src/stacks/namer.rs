//! EDGE: gives functions of foreign programs their names: a process that may do nothing.
//!
//! ```text
//! worker ──(process, chain, words)──▶ namer ──(wish)──▶ opener
//!        ◀──────(names, words)────────      ◀──(files)──
//! ```
//!
//! ELF, DWARF and maps of foreign programs are read here and nowhere else. A file that is cut while
//! it is mapped ends this process (SIGBUS), as does a parser that takes too much memory; the worker
//! starts another. It holds no secret, and has no right but to ask the opener.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    sync::Arc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::{
    Frame, Named, Top,
    image::Image,
    maps::{Mapping, Maps},
    opener::{self, Opened, Wish},
    perf_map::PerfMap,
    site,
    traces::Job,
    unwind::{Used, walk},
};
use crate::{life::privileges, model::ProcessKey};

/// The hidden verb of the process.
pub const VERB: &str = "name-stacks";

/// Memory that it may use, address space in bytes. Chosen: the debug information of the largest
/// programs is some gigabytes, and it is mapped.
const MOST_MEMORY: u64 = 8 << 30;

/// Priority (`nice`): names can wait, and the host has other work.
const PRIORITY: i32 = 10;

/// Programs and libraries whose tables are kept. Chosen: a program has some ten, most of them the
/// same ones. When there is no room, all are forgotten.
const MOST_FILES: usize = 64;

/// Bytes of `/proc/PID/maps` that are read: 65,530 mappings of 100 bytes, and room.
const MOST_MAPS: u64 = 16 << 20;

/// Bytes of a perf map that are read. Chosen: a Node program writes a few megabytes.
const MOST_PERF_MAP: u64 = 64 << 20;

/// Functions of a stack that are told. Chosen: more than are walked, and some that were inlined.
const MOST_FRAMES: usize = 64;

/// Longest name and path that are told, characters. Chosen: generic names go on for pages.
const LONGEST: usize = 250;

/// Largest file that is copied because its mode forbids us to open it again. Chosen: more than most
/// programs; others have no names of functions then.
const LARGEST_COPY: u64 = 256 << 20;

/// What the worker asks, a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    pid: u32,
    start_ns: u64,
    chain: Vec<u64>,
    stack_pointer: u64,
    words: Vec<u64>,
}

/// What it is answered, a line of JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// The names.
    pub named: Named,
    /// Words that it rests on, each with whether it is relative.
    used: Vec<(usize, bool)>,
    /// Whether it failed for lack of rights.
    pub is_refused: bool,
}

impl Question {
    /// About a job.
    pub fn new(job: &Job) -> Self {
        Self {
            pid: job.process.pid,
            start_ns: job.process.start_ns,
            chain: job.chain.to_vec(),
            stack_pointer: job.top.stack_pointer,
            words: job.top.words.clone(),
        }
    }
}

impl Reply {
    /// That there are no names, for `note`.
    pub fn without(note: String) -> Self {
        Self { named: Named::unknown(note), ..Self::default() }
    }

    /// The words that it rests on.
    pub fn used(&self) -> Vec<Used> {
        self.used.iter().map(|&(index, is_relative)| Used { index, is_relative }).collect()
    }
}

/// The process: answers until nobody asks. Its input is the worker's socket, its output the
/// opener's.
///
/// # Errors
///
/// When its privileges stay, or its sockets fail.
pub fn serve() -> io::Result<()> {
    // Lower is always allowed; a sandbox may forbid it, or the limit, and then it is as it is.
    let _as_it_is = rustix::process::setpriority_process(None, PRIORITY);
    let limit = Rlimit { current: Some(MOST_MEMORY), maximum: Some(MOST_MEMORY) };
    let _as_it_is = setrlimit(Resource::As, limit);
    privileges::renounce().map_err(io::Error::other)?;
    let opener = io::stdout().as_fd().try_clone_to_owned()?;
    let mut worker = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut namer = Namer { opener, files: HashMap::new(), symbolizer: new_symbolizer() };
    for line in io::stdin().lock().lines() {
        let Ok(question) = serde_json::from_str::<Question>(&line?) else { continue };
        let mut reply = serde_json::to_vec(&namer.answer(question))?;
        reply.push(b'\n');
        worker.write_all(&reply)?;
    }
    Ok(())
}

struct Namer {
    opener: OwnedFd,
    files: HashMap<Identity, Arc<Program>>,
    /// Remembers files by device and inode; forgotten with `files`.
    symbolizer: Symbolizer,
}

/// Device, inode, size and last change of a file.
type Identity = (u64, u64, u64, i64, i64);

/// A file that was looked at. It stays open, so that its number is not used for another.
struct Program {
    file: File,
    image: Image,
    can_be_opened: bool,
}

/// What is known of a process while one stack of it is named.
struct View<'a> {
    process: ProcessKey,
    opener: &'a OwnedFd,
    maps: Maps,
    /// Programs by the start of their mapping.
    programs: HashMap<u64, Option<Arc<Program>>>,
    perf_map: Option<PerfMap>,
    /// A file that the process runs could not be opened.
    is_refused: bool,
}

impl Namer {
    fn answer(&mut self, question: Question) -> Reply {
        let process = ProcessKey { pid: question.pid, start_ns: question.start_ns };
        let text = match read(&self.opener, process, Wish::Maps, MOST_MAPS) {
            Ok(text) => text,
            Err(error) => return refused(&error),
        };
        if self.files.len() >= MOST_FILES {
            self.files.clear();
            self.symbolizer = new_symbolizer();
        }
        let mut view = View {
            process,
            opener: &self.opener,
            maps: Maps::parse(&text),
            programs: HashMap::new(),
            perf_map: None,
            is_refused: false,
        };
        let top = Top { stack_pointer: question.stack_pointer, words: question.words };
        let maps = view.maps.clone();
        let is_code = |address| maps.find(address).is_some();
        let files = &mut self.files;
        let rule = |address| {
            let mapping = maps.find(address)?;
            let program = view.program(mapping, files)?;
            program.image.rule(mapping.file_offset(address))
        };
        let walked = walk(&question.chain, &top, rule, is_code);
        let mut frames = Vec::new();
        for (at, address) in walked.frames.iter().enumerate() {
            // Where a call is, not where it returns to: that may be another line, or function.
            let address = if at == 0 { *address } else { address.wrapping_sub(1) };
            frames.extend(view.name(address, &self.symbolizer, &mut self.files));
        }
        frames.truncate(MOST_FRAMES);
        for frame in &mut frames {
            for text in [&mut frame.function, &mut frame.file, &mut frame.module] {
                *text = text.take().map(|text| text.chars().take(LONGEST).collect());
            }
        }
        let used = walked.used.iter().map(|used| (used.index, used.is_relative)).collect();
        let is_refused = view.is_refused;
        Reply { named: site::judge(frames, &walked, is_refused), used, is_refused }
    }
}

impl View<'_> {
    /// The functions at `address`, the innermost first: several where they were inlined.
    fn name(
        &mut self,
        address: u64,
        symbolizer: &Symbolizer,
        files: &mut HashMap<Identity, Arc<Program>>,
    ) -> Vec<Frame> {
        let Some(mapping) = self.maps.find(address).cloned() else {
            return vec![Frame { offset: address, ..Frame::default() }];
        };
        if !mapping.has_file() {
            // Names in brackets are the kernel's ([vdso]) or given to memory ([anon:v8]).
            let is_kernels = mapping.path == "[vdso]" || mapping.path == "[vsyscall]";
            let module = is_kernels.then_some(mapping.path);
            let function = module.is_none().then(|| self.generated(address)).flatten();
            return vec![Frame { function, module, offset: address, ..Frame::default() }];
        }
        let in_file = mapping.file_offset(address);
        let program = self.program(&mapping, files);
        let offset = program.as_ref().and_then(|it| it.image.address(in_file)).unwrap_or(in_file);
        let bare = Frame { module: Some(mapping.path), offset, ..Frame::default() };
        let Some(program) = program.filter(|program| program.can_be_opened) else {
            return vec![bare];
        };
        let source = Source::Elf(Elf::new(own_path(&program.file)));
        match symbolizer.symbolize_single(&source, Input::FileOffset(in_file)) {
            Ok(Symbolized::Sym(symbol)) => named(&bare, &symbol),
            Ok(Symbolized::Unknown(_)) | Err(_) => vec![bare],
        }
    }

    fn program(
        &mut self,
        mapping: &Mapping,
        files: &mut HashMap<Identity, Arc<Program>>,
    ) -> Option<Arc<Program>> {
        if !mapping.has_file() {
            return None;
        }
        if let Some(known) = self.programs.get(&mapping.start) {
            return known.clone();
        }
        let wish = Wish::File { start: mapping.start, end: mapping.end };
        let file = open(self.opener, self.process, wish);
        self.is_refused |= file.as_ref().is_err_and(is_refusal);
        let program = file.ok().and_then(|file| Program::look(file, files));
        self.programs.insert(mapping.start, program.clone());
        program
    }

    /// A function that was made while the program ran.
    fn generated(&mut self, address: u64) -> Option<String> {
        let Self { process, opener, .. } = *self;
        let map = self.perf_map.get_or_insert_with(|| {
            let status = read(opener, process, Wish::Status, 64 << 10).unwrap_or_default();
            let number = inner_number(&status).unwrap_or(process.pid);
            let text = read(opener, process, Wish::PerfMap { number }, MOST_PERF_MAP);
            text.map(|text| PerfMap::parse(&text)).unwrap_or_default()
        });
        map.name(address).map(str::to_owned)
    }
}

impl Program {
    fn look(file: File, files: &mut HashMap<Identity, Arc<Self>>) -> Option<Arc<Self>> {
        let meta = file.metadata().ok()?;
        let identity = (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
        if let Some(known) = files.get(&identity) {
            return Some(known.clone());
        }
        let image = Image::read(&object::ReadCache::new(&file));
        // Its mode may allow that to its users only; what we were given is open all the same.
        let file = match File::open(own_path(&file)) {
            Ok(_) => file,
            Err(_) => copy(&file, meta.size()).unwrap_or(file),
        };
        let can_be_opened = File::open(own_path(&file)).is_ok();
        let program = Arc::new(Self { file, image, can_be_opened });
        files.insert(identity, program.clone());
        Some(program)
    }
}

fn new_symbolizer() -> Symbolizer {
    // No debug files from elsewhere: a foreign program must not say which files of ours are read.
    Symbolizer::builder().set_debug_dirs(Some([""; 0])).build()
}

fn copy(file: &File, size: u64) -> Option<File> {
    if size > LARGEST_COPY {
        return None;
    }
    let memory = rustix::fs::memfd_create("program", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut memory = File::from(memory);
    let mut from = file;
    io::Seek::rewind(&mut from).ok()?;
    io::copy(&mut from.take(size), &mut memory).ok()?;
    Some(memory)
}

fn own_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn named(bare: &Frame, symbol: &Sym<'_>) -> Vec<Frame> {
    let frame = |name: &str, code: Option<&CodeInfo<'_>>| Frame {
        function: Some(name.to_owned()),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|code| code.line),
        ..bare.clone()
    };
    let inlined = symbol.inlined.iter().rev();
    let mut frames: Vec<Frame> =
        inlined.map(|inner| frame(&inner.name, inner.code_info.as_ref())).collect();
    frames.push(frame(&symbol.name, symbol.code_info.as_deref()));
    frames
}

fn open(opener: &OwnedFd, process: ProcessKey, wish: Wish) -> io::Result<File> {
    let Opened { stat, file } = opener::ask(opener, process.pid, wish)?;
    let mut text = String::new();
    File::from(stat).take(4_096).read_to_string(&mut text)?;
    if is_same(&text, process) { Ok(File::from(file)) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn read(opener: &OwnedFd, process: ProcessKey, wish: Wish, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(opener, process, wish)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the text of `/proc/PID/stat` is of this life of the number: the start is its 22nd field,
/// in ticks (proc_pid_stat(5)). The name before it may have any characters.
fn is_same(stat: &str, process: ProcessKey) -> bool {
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let ticks = fields.and_then(|mut fields| fields.nth(19)).and_then(|it| it.parse::<u64>().ok());
    let tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
    ticks.is_some_and(|it| it.saturating_mul(tick).abs_diff(process.start_ns) <= tick)
}

/// The number that a process has in its own namespace: the last of `NSpid:` (proc_pid_status(5)).
fn inner_number(status: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(status);
    let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn refused(error: &io::Error) -> Reply {
    let is_refused = is_refusal(error);
    let note = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the program could not be looked at: sockwarden has no CAP_SYS_PTRACE".to_owned()
        }
        io::ErrorKind::NotFound => "the process had ended before its stack was named".to_owned(),
        _ if error.raw_os_error() == Some(libc::ESRCH) => {
            "the process had ended before its stack was named".to_owned()
        }
        _ => format!("the program could not be looked at: {error}"),
    };
    Reply { named: Named::unknown(note), used: Vec::new(), is_refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_life_of_a_process_is_looked_at() {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("we live");
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        let fields = stat.rsplit_once(')').expect("it has a name").1;
        let ticks: u64 = fields.split_whitespace().nth(19).expect("22").parse().expect("a number");
        let at = |start_ns| ProcessKey { pid: 1, start_ns };
        assert!(is_same(&stat, at(ticks * tick)));
        assert!(is_same(&stat, at(ticks * tick + tick - 1)));
        assert!(!is_same(&stat, at(ticks * tick + 5 * tick)));
        assert!(!is_same(&stat, at(0)));
        let hostile = format!("1 (a) 1 2) {}", fields.trim());
        assert!(is_same(&hostile, at(ticks * tick)));
        for text in ["", "1 (a)", "1 (a) S 1", "no"] {
            assert!(!is_same(text, at(0)), "{text}");
        }
    }

    #[test]
    fn the_inner_number_is_the_last() {
        let cases: [(&[u8], Option<u32>); 4] = [
            (b"Name:\tx\nNSpid:\t4711\t12\t1\nNSpgid:\t1\n", Some(1)),
            (b"NSpid:\t4711\n", Some(4711)),
            (b"NSpid:\n", None),
            (b"\xff", None),
        ];
        for (status, expected) in cases {
            assert_eq!(inner_number(status), expected);
        }
    }
}
