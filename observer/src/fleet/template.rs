//! PURE. From what people write about a device to what the pool needs.

use pool::{CallerError, Device, Priority, Publish, QoS, Will};

use super::{DeviceSpec, SubscriptionSpec, Template, WillSpec, spec};

/// What is written in a text of the template.
const PLACEHOLDERS: &str = "{id} for the device's id, {{ and }} for braces";

impl Template {
    /// Whether devices can be made from it.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`]: an unknown placeholder, or what MQTT does not allow.
    pub fn check(&self) -> Result<(), CallerError> {
        let mut sample = DeviceSpec { id: "id".into(), ..DeviceSpec::default() };
        if self.username.is_none() && self.password.is_some() {
            // Each device may bring its own user name.
            sample.username = Some("name".into());
        }
        self.device(&sample).map(|_| ())
    }

    /// The device that `spec` and this template make together. What the spec says wins over the
    /// template, the template over the pool.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] with the field, what was given and what is allowed.
    pub fn device(&self, spec: &DeviceSpec) -> Result<Device, CallerError> {
        build(&self.resolve(spec)?)
    }

    /// `spec` with everything in it that the template says.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] for an unknown placeholder, a keep-alive out of range, and a
    /// wildcard that would come into a topic.
    pub(super) fn resolve(&self, spec: &DeviceSpec) -> Result<DeviceSpec, CallerError> {
        let id = &spec.id;
        let text = |field, own: &Option<String>, template: &Option<String>| match (own, template) {
            (Some(own), _) => Ok(Some(own.clone())),
            (None, Some(template)) => expand(field, template, id).map(Some),
            (None, None) => Ok(None),
        };
        let client_id = text("client id", &spec.client_id, &self.client_id)?;
        let will = match (&spec.will, &self.will) {
            (None, Some(template)) => Some(expand_will(template, id)?),
            (own, _) => own.clone(),
        };
        let subscriptions = match &spec.subscriptions {
            Some(own) => own.clone(),
            None => expand_filters(&self.subscriptions, id)?,
        };
        Ok(DeviceSpec {
            id: id.clone(),
            client_id: client_id.filter(|client_id| client_id != id),
            username: text("user name", &spec.username, &self.username)?,
            password: spec.password.as_ref().or(self.password.as_ref()).cloned(),
            keep_alive_s: match spec.keep_alive_s {
                Some(own) => Some(own),
                None => self.keep_alive.map(whole_seconds).transpose()?,
            },
            priority: spec.priority.clone(),
            will,
            subscriptions: Some(subscriptions),
        })
    }
}

/// The pool's device for a spec that no template has anything to add to.
///
/// # Errors
///
/// [`CallerError::InvalidField`].
pub(super) fn build(spec: &DeviceSpec) -> Result<Device, CallerError> {
    let mut device = Device::new(&spec.id)?.priority(priority(spec.priority.as_deref())?);
    if let Some(client_id) = &spec.client_id {
        device = device.client_id(client_id)?;
    }
    device = match (&spec.username, &spec.password) {
        (None, None) => device,
        (Some(username), Some(password)) => {
            device.credentials(username, password.0.clone().into_bytes())?
        }
        (Some(username), None) => device.username(username)?,
        (None, Some(_)) => {
            return Err(invalid("password", "one without a user name", "one with a user name"));
        }
    };
    if let Some(seconds) = spec.keep_alive_s {
        device = device.keep_alive(std::time::Duration::from_secs(seconds.into()))?;
    }
    if let Some(will) = &spec.will {
        let publish = Publish::new(&will.topic, qos(will.qos)?, will.payload.clone())?;
        device = device.will(Will::new(if will.retain { publish.retain() } else { publish })?);
    }
    for subscription in spec.subscriptions.iter().flatten() {
        device = device.subscribe(&subscription.filter, qos(subscription.qos)?)?;
    }
    Ok(device)
}

fn priority(word: Option<&str>) -> Result<Priority, CallerError> {
    match word {
        None | Some("normal") => Ok(Priority::Normal),
        Some("low") => Ok(Priority::Low),
        Some("high") => Ok(Priority::High),
        Some(other) => Err(invalid("priority", format!("{other:?}"), "low, normal or high")),
    }
}

fn qos(number: u8) -> Result<QoS, CallerError> {
    match number {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        other => Err(invalid("qos", other.to_string(), spec::QOS)),
    }
}

fn whole_seconds(duration: std::time::Duration) -> Result<u16, CallerError> {
    let seconds = u16::try_from(duration.as_secs()).ok();
    let whole = seconds.filter(|_| duration.subsec_nanos() == 0);
    whole.ok_or_else(|| invalid("keep alive", format!("{duration:?}"), spec::KEEP_ALIVE))
}

fn expand_will(will: &WillSpec, id: &str) -> Result<WillSpec, CallerError> {
    Ok(WillSpec {
        topic: expand_topic("topic of the will", &will.topic, id)?,
        payload: expand("payload of the will", &will.payload, id)?,
        ..will.clone()
    })
}

fn expand_filters(
    filters: &[SubscriptionSpec],
    id: &str,
) -> Result<Vec<SubscriptionSpec>, CallerError> {
    let expanded = filters.iter().map(|subscription| {
        let filter = expand_topic("topic filter", &subscription.filter, id)?;
        Ok(SubscriptionSpec { filter, ..*subscription })
    });
    expanded.collect()
}

/// A device called `+` must not subscribe to what all others get.
fn expand_topic(field: &'static str, text: &str, id: &str) -> Result<String, CallerError> {
    let expanded = expand(field, text, id)?;
    let wildcards = |text: &str| text.matches(['+', '#']).count();
    if wildcards(&expanded) != wildcards(text) {
        let allowed = "an id without the wildcards + and #, for the template puts it into topics";
        return Err(invalid("device id", format!("{id:?}"), allowed));
    }
    Ok(expanded)
}

/// `text` with its placeholders replaced.
fn expand(field: &'static str, text: &str, id: &str) -> Result<String, CallerError> {
    let mut expanded = String::with_capacity(text.len() + id.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let tokens = [("{{", "{"), ("}}", "}"), ("{id}", id)];
        let Some((token, value)) = tokens.into_iter().find(|(token, _)| rest.starts_with(token))
        else {
            return Err(invalid(field, format!("{text:?}"), PLACEHOLDERS));
        };
        expanded.push_str(value);
        rest = &rest[token.len()..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn invalid(field: &'static str, given: impl Into<String>, allowed: &str) -> CallerError {
    CallerError::InvalidField { field, given: given.into(), allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::Secret;

    fn subscription(filter: &str) -> SubscriptionSpec {
        SubscriptionSpec { filter: filter.into(), qos: 1 }
    }

    fn template() -> Template {
        Template {
            client_id: Some("backend-{id}".into()),
            username: Some("user-{id}".into()),
            password: Some(Secret("geheim".into())),
            keep_alive: Some(Duration::from_secs(30)),
            will: Some(WillSpec {
                topic: "{id}/state".into(),
                payload: "{{\"gone\": \"{id}\"}}".into(),
                qos: 2,
                retain: true,
            }),
            subscriptions: vec![subscription("{id}/#"), subscription("all")],
        }
    }

    fn device(id: &str) -> DeviceSpec {
        DeviceSpec { id: id.into(), ..DeviceSpec::default() }
    }

    #[test]
    fn what_a_device_does_not_say_comes_from_the_template() {
        let resolved = template().resolve(&device("d{1}")).expect("invariant: all is well");
        let expected = DeviceSpec {
            id: "d{1}".into(),
            client_id: Some("backend-d{1}".into()),
            username: Some("user-d{1}".into()),
            password: Some(Secret("geheim".into())),
            keep_alive_s: Some(30),
            priority: None,
            will: Some(WillSpec {
                topic: "d{1}/state".into(),
                payload: "{\"gone\": \"d{1}\"}".into(),
                qos: 2,
                retain: true,
            }),
            subscriptions: Some(vec![subscription("d{1}/#"), subscription("all")]),
        };
        assert_eq!(resolved, expected);
    }

    #[test]
    fn what_a_device_says_itself_wins_and_is_taken_as_it_is() {
        let spec = DeviceSpec {
            id: "d".into(),
            client_id: Some("{id}".into()),
            username: Some("{{".into()),
            password: Some(Secret("own".into())),
            keep_alive_s: Some(0),
            priority: Some("low".into()),
            will: Some(WillSpec { topic: "}".into(), ..WillSpec::default() }),
            subscriptions: Some(Vec::new()),
        };
        assert_eq!(template().resolve(&spec), Ok(spec.clone()));
        assert!(template().device(&spec).is_ok());
    }

    #[test]
    fn a_client_id_that_is_the_name_is_none_of_its_own() {
        let template = Template { client_id: Some("{id}".into()), ..Template::default() };
        assert_eq!(template.resolve(&device("d")).map(|spec| spec.client_id), Ok(None));
    }

    #[test]
    fn the_pool_gets_everything() {
        let spec = DeviceSpec { priority: Some("high".into()), ..device("d") };
        let shown = format!("{:?}", template().device(&spec).expect("invariant: all is well"));
        let parts = [
            "id: \"d\"",
            "Some(\"backend-d\")",
            "\"user-d\", password: Some(\"…\")",
            "topic: \"d/state\"",
            "qos: ExactlyOnce, retain: true",
            "keep_alive: Some(30s)",
            "priority: High",
            "filter: \"d/#\", qos: AtLeastOnce",
        ];
        for part in parts {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let plain = Template::default().device(&device("d")).expect("invariant: all is well");
        let shown = format!("{plain:?}");
        assert!(shown.contains("credentials: None") && shown.contains("Normal"), "{shown}");
    }

    #[test]
    fn a_user_name_needs_no_password() {
        let spec = DeviceSpec { username: Some("token".into()), ..device("d") };
        let shown = format!("{:?}", Template::default().device(&spec));
        assert!(shown.contains("username: \"token\", password: None"), "{shown}");
    }

    #[test]
    fn a_wrong_template_is_found_before_any_device_is() {
        let with = |change: fn(&mut Template)| {
            let mut template = template();
            change(&mut template);
            template.check().map_err(|error| error.to_string())
        };
        assert_eq!(with(|_| {}), Ok(()));
        // A device may bring its user name.
        assert_eq!(with(|it| it.username = None), Ok(()));
        assert_eq!(Template::default().check(), Ok(()));
        type Change = fn(&mut Template);
        let cases: [(Change, &str); 12] = [
            (
                |it| it.client_id = Some("{ID}".into()),
                "invalid client id: given \"{ID}\", allowed: {id} for",
            ),
            (|it| it.client_id = Some("{id".into()), "invalid client id"),
            (|it| it.client_id = Some("a}b".into()), "invalid client id"),
            (|it| it.client_id = Some(String::new()), "invalid client id: given nothing"),
            (|it| it.username = Some("{name}".into()), "invalid user name"),
            (
                |it| it.keep_alive = Some(Duration::from_millis(1_500)),
                "given 1.5s, allowed: whole seconds",
            ),
            (
                |it| it.keep_alive = Some(Duration::from_secs(65_536)),
                "given 65536s, allowed: whole",
            ),
            (|it| it.subscriptions = vec![subscription("{x}")], "invalid topic filter"),
            (|it| it.subscriptions = vec![subscription("a/#/b")], "invalid topic filter"),
            (
                |it| it.subscriptions = vec![SubscriptionSpec { filter: "a".into(), qos: 3 }],
                "invalid qos: given 3",
            ),
            (
                |it| it.will = Some(WillSpec { topic: "a/+".into(), ..WillSpec::default() }),
                "invalid topic",
            ),
            (
                |it| {
                    it.will = Some(WillSpec {
                        topic: "a".into(),
                        payload: "{".into(),
                        ..WillSpec::default()
                    })
                },
                "invalid payload of the will",
            ),
        ];
        for (change, expected) in cases {
            let error = with(change).expect_err("invariant: the template is wrong");
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn no_wildcard_comes_into_a_topic_by_a_name() {
        for id in ["+", "a/#"] {
            let error = template().resolve(&device(id)).expect_err("invariant: a wildcard");
            assert!(error.to_string().starts_with("invalid device id: given"), "{error}");
        }
        let elsewhere = Template { client_id: Some("c-{id}".into()), ..Template::default() };
        assert!(elsewhere.device(&device("+")).is_ok());
    }

    #[test]
    fn a_password_alone_is_refused() {
        let spec = DeviceSpec { password: Some(Secret("geheim".into())), ..device("d") };
        let error = Template::default().device(&spec).expect_err("invariant: no user name");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}
