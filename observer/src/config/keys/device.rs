//! PURE. How the parts of a device are written: ids, wills, subscriptions.

use pool::{CallerError, DeviceId, Publish, QoS, Subscription, Will};
use toml::de::DeTable;

use super::super::{
    form::{Form, Problem, Taken, Text, Value, Wrong, flag, mistyped, number, text},
    source::quoted,
};
use crate::fleet::{Secret, SubscriptionSpec, WillSpec};

/// A client id that tells devices apart.
pub(super) fn client_id() -> Form<String> {
    text().checked(|it| it.contains(ID)).pool(|it| DeviceId::new(of_some_device(it)).map(drop))
}

/// A password.
pub(super) fn secret() -> Form<Option<Secret>> {
    let (form, write) = (text(), text());
    let read = move |value: &Value<'_>| match form.read(value) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(Secret(text))),
        Err(_) => {
            let given = "what is not shown".to_owned();
            let problem = Problem::Type("a text in quotes");
            Err(vec![Wrong { at: value.span(), given, problem }])
        }
    };
    let write = move |it: &Option<Secret>| match it {
        None => Text::One(quoted("")),
        Some(Secret(text)) => write.write(text),
    };
    Form::new("text", read, write).secret()
}

/// A will, or an empty table for none.
pub(super) fn will() -> Form<Option<WillSpec>> {
    const WHAT: &str = "a table such as { topic = \"devices/{id}\", payload = \"gone\", qos = 1 }";
    let read = |value: &Value<'_>| {
        let table = value.get_ref().as_table().ok_or_else(|| mistyped(value, WHAT))?;
        if table.is_empty() {
            return Ok(None);
        }
        let mut will = WillSpec::default();
        let mut fields = Fields::new(table);
        fields.take("topic", &text(), &mut will.topic);
        fields.take("payload", &text(), &mut will.payload);
        fields.take("qos", &number(0..=2), &mut will.qos);
        fields.take("retain", &flag(), &mut will.retain);
        fields.end(WHAT)?;
        let publish =
            Publish::new(of_some_device(&will.topic), QoS::AtMostOnce, will.payload.clone());
        accepted(value, publish.and_then(Will::new))?;
        Ok(Some(will))
    };
    let write = |it: &Option<WillSpec>| match it {
        None => Text::One("{}".to_owned()),
        Some(it) => Text::One(format!(
            "{{ topic = {}, payload = {}, qos = {}, retain = {} }}",
            quoted(&it.topic),
            quoted(&it.payload),
            it.qos,
            it.retain
        )),
    };
    Form::new("table", read, write)
}

/// A topic filter with its quality of service.
pub(super) fn subscription() -> Form<SubscriptionSpec> {
    const WHAT: &str = "a table such as { filter = \"devices/{id}/#\", qos = 1 }";
    let read = |value: &Value<'_>| {
        let table = value.get_ref().as_table().ok_or_else(|| mistyped(value, WHAT))?;
        let mut subscription = SubscriptionSpec::default();
        let mut fields = Fields::new(table);
        fields.take("filter", &text(), &mut subscription.filter);
        fields.take("qos", &number(0..=2), &mut subscription.qos);
        fields.end(WHAT)?;
        let filter = of_some_device(&subscription.filter);
        accepted(value, Subscription::new(filter, QoS::AtMostOnce))?;
        Ok(subscription)
    };
    let write = |it: &SubscriptionSpec| {
        Text::One(format!("{{ filter = {}, qos = {} }}", quoted(&it.filter), it.qos))
    };
    Form::new("table", read, write)
}

/// What stands for the name of a device.
const ID: &str = "{id}";

/// The fields of an inline table, taken one by one, with all that is wrong.
struct Fields<'a, 'i> {
    table: &'a DeTable<'i>,
    known: Vec<&'static str>,
    wrongs: Vec<Wrong>,
}

impl<'a, 'i> Fields<'a, 'i> {
    fn new(table: &'a DeTable<'i>) -> Self {
        Self { table, known: Vec::new(), wrongs: Vec::new() }
    }

    fn take<T: 'static>(&mut self, name: &'static str, form: &Form<T>, into: &mut T) {
        self.known.push(name);
        let Some(value) = self.table.get(name) else { return };
        match form.read(value) {
            Ok(it) => *into = it,
            Err(wrongs) => self.wrongs.extend(wrongs),
        }
    }

    fn end(mut self, what: &'static str) -> Taken<()> {
        for (name, value) in self.table {
            if !self.known.contains(&name.get_ref().as_ref()) {
                let given = quoted(name.get_ref());
                let at = name.span().start..value.span().end;
                self.wrongs.push(Wrong { at, given, problem: Problem::Type(what) });
            }
        }
        if self.wrongs.is_empty() { Ok(()) } else { Err(self.wrongs) }
    }
}

/// Whether the pool takes it, of a device with a short name.
fn accepted<T>(value: &Value<'_>, checked: Result<T, CallerError>) -> Taken<()> {
    match checked {
        Ok(_) => Ok(()),
        // The whole table would say nothing; what the pool was given does.
        Err(error) => Err(vec![Wrong::of_pool(value, error, true)]),
    }
}

fn of_some_device(text: &str) -> String {
    text.replace(ID, "x")
}
