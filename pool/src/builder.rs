//! How a pool is configured.

use crate::broker::Broker;
use crate::device::{Credentials, check_keep_alive};
use crate::error::{CallerError, Error};
use crate::packet::Version;
use crate::policy::{BackoffPolicy, Buffers, Limits, TakeoverPolicy, Timeouts};
use crate::pool::Pool;
use crate::receipt::{InetDiagReceipts, ReceiptSource};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Every knob of a pool, with its default. See [`policy`](crate::policy) for units and ranges.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) broker: Broker,
    pub(crate) version: Version,
    pub(crate) limits: Limits,
    pub(crate) backoff: BackoffPolicy,
    pub(crate) takeover: TakeoverPolicy,
    pub(crate) timeouts: Timeouts,
    pub(crate) buffers: Buffers,
    pub(crate) keep_alive: Duration,
    pub(crate) clean_start: bool,
    pub(crate) session_expiry: Duration,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) redirects: Vec<String>,
    pub(crate) receipts: Arc<dyn ReceiptSource>,
    pub(crate) headroom: Option<u64>,
    pub(crate) reset_on_destroy: bool,
    pub(crate) seed: Option<u64>,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) sabotage: Option<crate::testing::Sabotage>,
}

impl Builder {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            version: Version::default(),
            limits: Limits::default(),
            backoff: BackoffPolicy::default(),
            takeover: TakeoverPolicy::default(),
            timeouts: Timeouts::default(),
            buffers: Buffers::default(),
            keep_alive: Duration::from_secs(60),
            clean_start: false,
            session_expiry: Duration::from_secs(3_600),
            credentials: None,
            sources: Vec::new(),
            redirects: Vec::new(),
            receipts: Arc::new(InetDiagReceipts::default()),
            headroom: None,
            reset_on_destroy: true,
            seed: None,
            #[cfg(any(test, feature = "testing"))]
            sabotage: None,
        }
    }

    /// MQTT 3.1.1 (the default) or 5.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// How fast connects may begin. Default [`Limits::paced`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a device waits after a failed connect.
    pub fn backoff(mut self, backoff: BackoffPolicy) -> Self {
        self.backoff = backoff;
        self
    }

    /// When to stop fighting for a client id.
    pub fn takeover(mut self, takeover: TakeoverPolicy) -> Self {
        self.takeover = takeover;
        self
    }

    /// How long to wait for others.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How much may wait in either direction.
    pub fn buffers(mut self, buffers: Buffers) -> Self {
        self.buffers = buffers;
        self
    }

    /// For devices that have no own one: 0 (off) to 65,535 s, whole seconds. Default 60 s.
    pub fn keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Whether the broker forgets a device's session at each connect. Default no: subscriptions
    /// and messages with QoS above 0 outlive a replacement.
    pub fn clean_start(mut self, clean_start: bool) -> Self {
        self.clean_start = clean_start;
        self
    }

    /// MQTT 5: for how long the broker keeps a session whose connection is gone, in whole seconds
    /// up to 4,294,967,295. Default 1 hour. In 3.1.1 a broker keeps it for ever, unless
    /// [`Builder::clean_start`] is set.
    pub fn session_expiry(mut self, session_expiry: Duration) -> Self {
        self.session_expiry = session_expiry;
        self
    }

    /// For devices that have none of their own.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when one is longer than 65,535 bytes.
    pub fn credentials(
        mut self,
        username: impl Into<String>,
        password: impl Into<bytes::Bytes>,
    ) -> Result<Self, CallerError> {
        self.credentials = Some(Credentials::new(username.into(), password.into())?);
        Ok(self)
    }

    /// Local addresses to connect from; the one with the fewest connections is taken. Without
    /// one, the kernel chooses. One address has some 28,000 ports towards one broker, and past
    /// half of them each connect costs 25 times more.
    pub fn sources(mut self, sources: impl IntoIterator<Item = IpAddr>) -> Self {
        self.sources = sources.into_iter().collect();
        self
    }

    /// Servers that a broker of MQTT 5 may send a device to: `host`, `host:port` or
    /// `*.example.com`. Default none.
    pub fn redirects(mut self, servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.redirects = servers.into_iter().map(Into::into).collect();
        self
    }

    /// Who proves that a closed socket is gone. Default [`InetDiagReceipts`].
    pub fn receipts(mut self, receipts: Arc<dyn ReceiptSource>) -> Self {
        self.receipts = receipts;
        self
    }

    /// Descriptors that stay free for the rest of the process. Default: 64, or 1 % of the limit if
    /// that is more.
    pub fn descriptor_headroom(mut self, headroom: u64) -> Self {
        self.headroom = Some(headroom);
        self
    }

    /// Whether sessions that end because the broker is silent or breaks the protocol end by a
    /// reset (`SO_LINGER` 0), which leaves no half-closed socket and no port in TIME_WAIT.
    /// Default yes.
    pub fn reset_on_destroy(mut self, reset: bool) -> Self {
        self.reset_on_destroy = reset;
        self
    }

    /// Makes the jitter of the backoff repeatable, for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the pool do wrong on purpose.
    #[cfg(any(test, feature = "testing"))]
    pub fn sabotage(mut self, sabotage: crate::testing::Sabotage) -> Self {
        self.sabotage = Some(sabotage);
        self
    }

    /// Starts the pool on the present tokio runtime; it has no devices yet. The limit of open
    /// files is raised to the hard limit.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] for a value outside its range, [`CallerError::NoRuntime`]
    /// outside a tokio runtime, [`OperatorError`](crate::OperatorError) when a certificate cannot
    /// be used.
    pub fn build(self) -> Result<Pool, Error> {
        self.check()?;
        Pool::start(self)
    }

    fn check(&self) -> Result<(), CallerError> {
        self.limits.check()?;
        self.backoff.check()?;
        self.takeover.check()?;
        self.timeouts.check()?;
        self.buffers.check()?;
        check_keep_alive(self.keep_alive)?;
        if self.session_expiry.as_secs() > u64::from(u32::MAX) {
            return Err(CallerError::InvalidField {
                field: "session_expiry",
                given: format!("{:?}", self.session_expiry),
                allowed: "0 to 4,294,967,295 s".to_owned(),
            });
        }
        Ok(())
    }
}
