//! Where the daemon's other threads ask the observer.
//!
//! The observer's loop answers between two looks at the kernel, from one consistent table. Nobody
//! else ever waits for a lock of it.

use std::sync::{Arc, Weak};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    claims,
    detect::Kind,
    incident::Finding,
    model::{Cookie, Holder, TcpState},
    reading::Reading,
    table::{Evidence, Socket},
};

/// A handle to the observer's thread; clone it freely.
#[derive(Clone, Debug)]
pub struct Desk {
    questions: mpsc::Sender<Question>,
    news: broadcast::Sender<News>,
}

/// The observer is gone: the daemon is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the observer has ended")]
pub struct Gone;

/// One question, with where the answer goes. Whoever does not wait any more loses nothing.
#[derive(Debug)]
pub enum Question {
    /// All numbers.
    Reading(oneshot::Sender<Reading>),
    /// Open findings.
    Findings {
        /// Whether they carry the history of their sockets.
        explained: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Findings>,
    },
    /// Sockets, by cookie.
    Sockets(SocketFilter, oneshot::Sender<Sockets>),
    /// What a process says of its sockets.
    Claims(Claiming, oneshot::Sender<Result<claims::Counts, claims::Refusal>>),
}

/// What a process says of its sockets.
#[derive(Clone, Debug)]
pub struct Claiming {
    /// The process: whoever asks has made sure that it may speak for it.
    pub pid: u32,
    /// In order.
    pub statements: Vec<claims::Statement>,
    /// With [`claims::Statement::Begin`]: the stream has ended when nobody has the other end of
    /// this any more.
    pub stream: Option<Weak<()>>,
}

/// Findings.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Those that are open, by number.
    pub open: Vec<Finding>,
    /// How many more there would be but for rules.
    pub ignored: u64,
}

/// Which sockets are wanted. Everything that is given must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFilter {
    /// Held or owned by this process.
    pub pid: Option<u32>,
    /// In this state.
    pub state: Option<TcpState>,
    /// With this local or remote port.
    pub port: Option<u16>,
    /// Only those after this one, to go on from page to page.
    pub after: Cookie,
    /// At most so many.
    pub limit: usize,
}

/// Some sockets.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// By cookie.
    pub sockets: Vec<SocketView>,
    /// Whether there are more after these.
    pub more: bool,
}

/// One socket with all that is known about it.
#[derive(Clone, Debug)]
pub struct SocketView {
    /// As the table has it.
    pub socket: Socket,
    /// Its holders, with their names.
    pub holders: Vec<Holder>,
    /// How good the proof of its state is.
    pub evidence: Evidence,
    /// Kinds of the open findings about it.
    pub findings: Vec<Kind>,
    /// The device whose it is, by the registry, and which of its sessions.
    pub device: Option<(Arc<str>, u32)>,
}

/// What happens, for whoever wants to follow it. A reader that falls behind is told how much it
/// missed.
#[derive(Clone, Debug)]
pub enum News {
    /// An incident opened, changed or cleared.
    Finding(Arc<Finding>),
    /// Something is missing.
    Loss {
        /// Why, a stable name.
        cause: &'static str,
        /// How much.
        lost: u64,
    },
    /// The pool said so.
    Pool(Arc<pool::Event>),
}

impl Desk {
    /// A desk, and where its questions come out. `backlog`: how many news a reader may fall behind.
    pub fn new(backlog: usize) -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(64);
        (Self { questions, news: broadcast::channel(backlog).0 }, asked)
    }

    /// All numbers.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    ///
    /// # Cancel safety
    ///
    /// Safe, as all questions: nothing is changed by asking.
    pub async fn reading(&self) -> Result<Reading, Gone> {
        self.ask(Question::Reading).await
    }

    /// Open findings; `explained` ones carry the history of their sockets.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn findings(&self, explained: bool) -> Result<Findings, Gone> {
        self.ask(|reply| Question::Findings { explained, reply }).await
    }

    /// Sockets, by cookie.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn sockets(&self, filter: SocketFilter) -> Result<Sockets, Gone> {
        self.ask(|reply| Question::Sockets(filter, reply)).await
    }

    /// Tells what a process says of its sockets.
    ///
    /// # Errors
    ///
    /// [`Gone`], or why it was refused.
    ///
    /// # Cancel safety
    ///
    /// What was told may have been taken in though nobody waits for the answer.
    pub async fn claims(
        &self,
        claiming: Claiming,
    ) -> Result<Result<claims::Counts, claims::Refusal>, Gone> {
        self.ask(|reply| Question::Claims(claiming, reply)).await
    }

    /// What happens from now on.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Tells whoever listens.
    pub fn tell(&self, news: News) {
        let _nobody_listens = self.news.send(news);
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(question(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
