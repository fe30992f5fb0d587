//! What plays the other end: tasks of a runtime, or processes, gone when dropped.

use std::any::Any;
use std::fmt;
use std::io;
use std::process::{Child, Command, Stdio};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// The other end of a program.
pub struct Stage {
    /// Where it listens; 0 if it connects.
    pub port: u16,
    /// What it does when the program says `act`.
    pub(super) act: Option<Box<dyn FnMut() + Send>>,
    /// What lives as long.
    kept: Vec<Box<dyn Any + Send>>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Stage {
    pub(super) fn new(port: u16, kept: impl Any + Send) -> Self {
        Self { port, act: None, kept: vec![Box::new(kept)] }
    }

    /// With `act` for when the program asks for it.
    pub(super) fn on_act(mut self, act: impl FnMut() + Send + 'static) -> Self {
        self.act = Some(Box::new(act));
        self
    }

    /// With one more thing that lives as long.
    pub(super) fn keep(mut self, kept: impl Any + Send) -> Self {
        self.kept.push(Box::new(kept));
        self
    }

    /// A listener on 127.0.0.1 that serves each connection by `serve`.
    pub(super) fn serve<F, S>(serve: S) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
        S: Fn(TcpStream) -> F + Send + 'static,
    {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)));
        let listener = listener.expect("the kernel has a free port");
        let port = listener.local_addr().expect("invariant: it is bound").port();
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self::new(port, runtime)
    }

    /// So many clients of `port`.
    pub(super) fn connect<F, C>(port: u16, count: usize, client: C) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
        C: Fn(TcpStream) -> F + Send + 'static,
    {
        let runtime = runtime();
        runtime.spawn(async move {
            let mut clients = JoinSet::new();
            for _ in 0..count {
                if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                    clients.spawn(client(stream));
                }
            }
            while clients.join_next().await.is_some() {}
        });
        Self::new(0, runtime)
    }
}

/// A runtime of the other end's own, so that dropping it closes everything.
pub(super) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a thread can be started")
}

/// A process that is ended when dropped, and goes with the test should that be killed.
#[derive(Debug)]
pub(super) struct Mortal(pub(super) Child);

impl Mortal {
    /// Starts it, without output; its input is a pipe that stays open.
    #[track_caller]
    pub(super) fn start(words: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("setpriv is there: it is essential to Debian"))
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}
