//! What a connection stands for.

use crate::error::CallerError;
use crate::message::{QoS, Subscription, Will};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The name of a device, which is its MQTT client id too unless [`Device::client_id`] says otherwise.
///
/// 1 to 65,535 bytes of UTF-8 without U+0000 (MQTT 3.1.1 §1.5.3). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when it is empty, longer than 65,535 bytes or contains U+0000.
    pub fn new(name: impl AsRef<str>) -> Result<Self, CallerError> {
        let name = name.as_ref();
        check_mqtt_string("device id", name, 1)?;
        Ok(Self(name.into()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for DeviceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Which of a slot's sessions: grows by one with each dial, and never comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u32);

impl Generation {
    /// The one after this.
    pub(crate) fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("invariant: one dial a second lasts for 136 years"))
    }

    /// 0 before the first dial.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who goes first when connects have to wait: a higher one before a lower one, then the earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// After all others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// User name and password. The password is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// At most 65,535 bytes.
    pub username: String,
    /// At most 65,535 bytes; `None` sends no password.
    pub password: Option<bytes::Bytes>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "…");
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &password)
            .finish()
    }
}

impl Credentials {
    pub(crate) fn new(username: String, password: bytes::Bytes) -> Result<Self, CallerError> {
        check_mqtt_string("user name", &username, 0)?;
        if password.len() > MAX_STRING {
            return Err(too_long("password", password.len()));
        }
        Ok(Self { username, password: Some(password) })
    }
}

/// One device, as it is handed to [`Pool::add`](crate::Pool::add).
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) id: DeviceId,
    pub(crate) client_id: Option<Arc<str>>,
    pub(crate) credentials: Option<Box<Credentials>>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) priority: Priority,
    pub(crate) subscriptions: Vec<Subscription>,
}

impl Device {
    /// A device with nothing but its name.
    ///
    /// # Errors
    ///
    /// As [`DeviceId::new`].
    pub fn new(id: impl AsRef<str>) -> Result<Self, CallerError> {
        Ok(Self {
            id: DeviceId::new(id)?,
            client_id: None,
            credentials: None,
            will: None,
            keep_alive: None,
            priority: Priority::default(),
            subscriptions: Vec::new(),
        })
    }

    /// The MQTT client id where it is not the device's name: a backend that connects under a
    /// device's own client id and the device itself take the session from each other for ever.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] as for [`DeviceId::new`].
    pub fn client_id(mut self, client_id: impl AsRef<str>) -> Result<Self, CallerError> {
        let client_id = client_id.as_ref();
        check_mqtt_string("client id", client_id, 1)?;
        self.client_id = Some(client_id.into());
        Ok(self)
    }

    /// User name and password; without this, the pool's ones.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when one is too long.
    pub fn credentials(
        mut self,
        username: impl Into<String>,
        password: impl Into<bytes::Bytes>,
    ) -> Result<Self, CallerError> {
        self.credentials = Some(Box::new(Credentials::new(username.into(), password.into())?));
        Ok(self)
    }

    /// A user name without a password, as brokers want it that take it for a token.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when it is too long.
    pub fn username(mut self, username: impl Into<String>) -> Result<Self, CallerError> {
        let credentials = Credentials::new(username.into(), bytes::Bytes::new())?;
        self.credentials = Some(Box::new(Credentials { password: None, ..credentials }));
        Ok(self)
    }

    /// What the broker publishes when this device's session ends without a DISCONNECT.
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(Box::new(will));
        self
    }

    /// 0 (off) to 65,535 s, whole seconds; without this, the pool's one.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when it is longer, or no whole number of seconds.
    pub fn keep_alive(mut self, keep_alive: Duration) -> Result<Self, CallerError> {
        check_keep_alive(keep_alive)?;
        self.keep_alive = Some(keep_alive);
        Ok(self)
    }

    /// Who goes first in a storm.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Adds a subscription that is made whenever the broker has none of this device any more.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when the filter is not one (MQTT 3.1.1 §4.7).
    pub fn subscribe(mut self, filter: impl AsRef<str>, qos: QoS) -> Result<Self, CallerError> {
        self.subscriptions.push(Subscription::new(filter, qos)?);
        Ok(self)
    }

    /// Its name.
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    pub(crate) fn mqtt_client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or(self.id.as_str())
    }
}

/// The longest string or binary field of MQTT, in bytes (MQTT 3.1.1 §1.5.3).
pub(crate) const MAX_STRING: usize = 65_535;

pub(crate) fn check_mqtt_string(
    field: &'static str,
    text: &str,
    least: usize,
) -> Result<(), CallerError> {
    if text.len() < least {
        let allowed = "1 to 65,535 bytes of UTF-8".to_owned();
        return Err(CallerError::InvalidField { field, given: "nothing".to_owned(), allowed });
    }
    if text.len() > MAX_STRING {
        return Err(too_long(field, text.len()));
    }
    if text.contains('\0') {
        let given = "a text with U+0000".to_owned();
        let allowed = "UTF-8 without U+0000 (MQTT 3.1.1 section 1.5.3)".to_owned();
        return Err(CallerError::InvalidField { field, given, allowed });
    }
    Ok(())
}

pub(crate) fn check_keep_alive(keep_alive: Duration) -> Result<(), CallerError> {
    if keep_alive.subsec_nanos() == 0 && keep_alive.as_secs() <= u64::from(u16::MAX) {
        return Ok(());
    }
    Err(CallerError::InvalidField {
        field: "keep alive",
        given: format!("{keep_alive:?}"),
        allowed: "whole seconds from 0 (off) to 65,535".to_owned(),
    })
}

fn too_long(field: &'static str, length: usize) -> CallerError {
    CallerError::InvalidField {
        field,
        given: format!("{length} bytes"),
        allowed: "at most 65,535 bytes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_has_at_least_one_byte_and_at_most_65_535() {
        assert!(DeviceId::new("").is_err());
        assert!(DeviceId::new("a").is_ok());
        assert!(DeviceId::new("a".repeat(65_535)).is_ok());
        let error = DeviceId::new("a".repeat(65_536)).expect_err("invariant: too long");
        assert_eq!(
            error.to_string(),
            "invalid device id: given 65536 bytes, allowed: at most 65,535 bytes"
        );
        assert!(DeviceId::new("a\0b").is_err());
    }

    #[test]
    fn keep_alive_is_in_whole_seconds() {
        assert!(check_keep_alive(Duration::ZERO).is_ok());
        assert!(check_keep_alive(Duration::from_secs(65_535)).is_ok());
        assert!(check_keep_alive(Duration::from_secs(65_536)).is_err());
        assert!(check_keep_alive(Duration::from_millis(1_500)).is_err());
    }

    #[test]
    fn a_password_is_not_shown() {
        let device = Device::new("d").and_then(|d| d.credentials("user", "secret"));
        let shown = format!("{:?}", device.expect("invariant: both are short"));
        assert!(shown.contains("user") && !shown.contains("secret"), "{shown}");
    }
}
