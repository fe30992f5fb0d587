//! PURE. What a row of the table of keys is.

use std::borrow::Cow;

use super::{
    form::{Form, Taken, Text, Value},
    written::Written,
};

/// A part of the file.
pub(super) struct Section {
    /// As it stands in brackets.
    pub(super) name: &'static str,
    /// What it is about.
    pub(super) meaning: &'static str,
    /// For an array of tables, each of which has these keys: two of them as an example.
    pub(super) repeats: Option<&'static str>,
    pub(super) keys: Vec<Key>,
}

impl Section {
    /// As it stands in the file.
    pub(super) fn title(&self) -> String {
        match self.repeats {
            Some(_) => format!("[[{}]]", self.name),
            None => format!("[{}]", self.name),
        }
    }
}

/// A key: all that there is to say about it.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// How it is written, and which field of [`Written`] it is.
    pub(super) place: Box<dyn Place>,
    /// As it is written in TOML.
    pub(super) default: Cow<'static, str>,
    /// In words.
    pub(super) allowed: &'static str,
    pub(super) meaning: &'static str,
    /// Why the default is what it is.
    pub(super) reason: &'static str,
    pub(super) reload: Reload,
}

/// What SIGHUP does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reload {
    /// It applies at once.
    Applies,
    /// What is added applies at once, what is removed needs a restart.
    Additions,
    /// It needs a restart.
    Restart,
}

/// A field and how it is written, whatever its type is.
pub(super) trait Place: Send + Sync {
    /// Puts `value` where it belongs.
    fn read(&self, value: &Value<'_>, into: &mut Written) -> Taken<()>;
    /// As [`Place::read`] takes it. It changes nothing, though one way to the field must do for both.
    fn write(&self, from: &mut Written) -> Text;
    /// Its type or unit, for the docs.
    fn unit(&self) -> &'static str;
    /// Whether nobody may see it.
    fn is_secret(&self) -> bool;
}

struct At<T, F> {
    form: Form<T>,
    field: F,
}

/// The field that `field` leads to, written in `form`.
pub(super) fn place<T: 'static>(
    form: Form<T>,
    field: impl Fn(&mut Written) -> &mut T + Send + Sync + 'static,
) -> Box<dyn Place> {
    Box::new(At { form, field })
}

impl<T: 'static, F> Place for At<T, F>
where
    F: Fn(&mut Written) -> &mut T + Send + Sync,
{
    fn read(&self, value: &Value<'_>, into: &mut Written) -> Taken<()> {
        *(self.field)(into) = self.form.read(value)?;
        Ok(())
    }

    fn write(&self, from: &mut Written) -> Text {
        self.form.write((self.field)(from))
    }

    fn unit(&self) -> &'static str {
        self.form.unit
    }

    fn is_secret(&self) -> bool {
        self.form.secret
    }
}
