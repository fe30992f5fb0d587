//! PURE. How values are written in the file and how they come back: one form for each type.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::{Range, RangeInclusive},
    path::PathBuf,
    time::Duration,
};

use pool::CallerError;
use toml::{Spanned, de::DeValue};

use super::{duration, source::quoted};
use crate::escape;

/// A value as it stands in the file, with where.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A value that was taken, or all that is wrong with it.
pub(super) type Taken<T> = Result<T, Vec<Wrong>>;

/// What is wrong with a value or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where, in bytes of the file.
    pub(super) at: Range<usize>,
    /// The value, fit to be shown.
    pub(super) given: String,
    pub(super) problem: Problem,
}

/// What kind of wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It should be something else: what.
    Type(&'static str),
    /// It is outside of what the key allows.
    Range,
    /// The pool says what it allows.
    Pool(String),
    /// A sentence about it.
    Rule(String),
}

/// A value as it is written in the file: whole, or item by item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    One(String),
    List(Vec<String>),
}

/// How a type is written.
pub(super) struct Form<T> {
    /// Its name in the docs.
    pub(super) unit: &'static str,
    /// Whether nobody may see it.
    pub(super) secret: bool,
    read: Box<Read<T>>,
    write: Box<Write<T>>,
}

type Read<T> = dyn Fn(&Value<'_>) -> Taken<T> + Send + Sync;

type Write<T> = dyn Fn(&T) -> Text + Send + Sync;

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) => f.write_str(text),
            Self::List(items) => write!(f, "[{}]", items.join(", ")),
        }
    }
}

impl Wrong {
    /// About all of `value`.
    pub(super) fn new(value: &Value<'_>, problem: Problem) -> Self {
        Self { at: value.span(), given: shown(value.get_ref()), problem }
    }

    /// About all of `value`, in the pool's words.
    ///
    /// `given` comes from the pool too where `hidden`: it knows what to leave out.
    pub(super) fn of_pool(value: &Value<'_>, error: CallerError, hidden: bool) -> Self {
        match error {
            CallerError::InvalidField { given, allowed, .. } => {
                let wrong = Self::new(value, Problem::Pool(allowed));
                if hidden { Self { given: shown_text(&given), ..wrong } } else { wrong }
            }
            other => Self::new(value, Problem::Rule(other.to_string())),
        }
    }
}

impl<T: 'static> Form<T> {
    pub(super) fn new(
        unit: &'static str,
        read: impl Fn(&Value<'_>) -> Taken<T> + Send + Sync + 'static,
        write: impl Fn(&T) -> Text + Send + Sync + 'static,
    ) -> Self {
        Self { unit, secret: false, read: Box::new(read), write: Box::new(write) }
    }

    pub(super) fn read(&self, value: &Value<'_>) -> Taken<T> {
        (self.read)(value)
    }

    pub(super) fn write(&self, value: &T) -> Text {
        (self.write)(value)
    }

    /// Nobody may see it.
    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Only what `fits`.
    pub(super) fn checked(self, fits: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.and(move |it, value| match fits(it) {
            true => Ok(()),
            false => Err(Wrong::new(value, Problem::Range)),
        })
    }

    /// Only what the pool takes.
    pub(super) fn pool(
        self,
        check: impl Fn(&T) -> Result<(), CallerError> + Send + Sync + 'static,
    ) -> Self {
        self.and(move |it, value| check(it).map_err(|error| Wrong::of_pool(value, error, false)))
    }

    /// With `word` for [`None`].
    pub(super) fn or(self, word: &'static str) -> Form<Option<T>> {
        let Self { unit, secret, read, write } = self;
        let read = move |value: &Value<'_>| match value.get_ref() {
            DeValue::String(text) if text == word => Ok(None),
            _ => read(value).map(Some),
        };
        let write = move |it: &Option<T>| match it {
            None => Text::One(quoted(word)),
            Some(it) => write(it),
        };
        Form { secret, ..Form::new(unit, read, write) }
    }

    /// Some of them, each once.
    pub(super) fn list(self, what: &'static str) -> Form<Vec<T>>
    where
        T: PartialEq,
    {
        let (read, write) = (self.read, self.write);
        let read = move |value: &Value<'_>| {
            let DeValue::Array(array) = value.get_ref() else {
                return Err(vec![Wrong::new(value, Problem::Type(what))]);
            };
            if array.len() > MOST_ITEMS {
                let rule = format!("at most {MOST_ITEMS} items are allowed");
                return Err(vec![Wrong::new(value, Problem::Rule(rule))]);
            }
            let (mut items, mut wrongs) = (Vec::with_capacity(array.len()), Vec::new());
            for value in array {
                match read(value) {
                    Err(several) => wrongs.extend(several),
                    Ok(item) if items.contains(&item) => {
                        let rule = "it is in the list already: remove it".to_owned();
                        wrongs.push(Wrong::new(value, Problem::Rule(rule)));
                    }
                    Ok(item) => items.push(item),
                }
            }
            if wrongs.is_empty() { Ok(items) } else { Err(wrongs) }
        };
        let write = move |items: &Vec<T>| {
            Text::List(items.iter().map(|it| write(it).to_string()).collect())
        };
        Form::new("list", read, write)
    }

    fn and(
        self,
        check: impl Fn(&T, &Value<'_>) -> Result<(), Wrong> + Send + Sync + 'static,
    ) -> Self {
        let read = self.read;
        let read = move |value: &Value<'_>| {
            let it = read(value)?;
            check(&it, value).map_err(|wrong| vec![wrong])?;
            Ok(it)
        };
        Self { read: Box::new(read), ..self }
    }
}

/// `true` or `false`.
pub(super) fn flag() -> Form<bool> {
    let what = "true or false";
    Form::new(
        "flag",
        move |value| value.get_ref().as_bool().ok_or_else(|| mistyped(value, what)),
        |it| Text::One(it.to_string()),
    )
}

/// A whole number.
pub(super) fn number<T>(range: RangeInclusive<T>) -> Form<T>
where
    T: TryFrom<u64> + fmt::Display + PartialOrd + Send + Sync + 'static,
{
    let what = "a whole number";
    let read = move |value: &Value<'_>| {
        let DeValue::Integer(digits) = value.get_ref() else {
            return Err(mistyped(value, what));
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
        let fitting = number.and_then(|number| T::try_from(number).ok());
        let fitting = fitting.filter(|number| range.contains(number));
        fitting.ok_or_else(|| vec![Wrong::new(value, Problem::Range)])
    };
    Form::new("number", read, |it: &T| Text::One(it.to_string()))
}

/// A number with or without a fraction.
pub(super) fn fraction() -> Form<f64> {
    let what = "a number";
    let read = move |value: &Value<'_>| {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(digits) if digits.radix() == 10 => digits.as_str().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| mistyped(value, what))
    };
    Form::new("number", read, |it: &f64| Text::One(format!("{it:?}")))
}

/// Bytes, as a number or with a unit: `65536`, `"64KiB"`, `"8MiB"`, `"1GiB"`.
pub(super) fn size<T>(range: RangeInclusive<u64>) -> Form<T>
where
    T: TryFrom<u64> + TryInto<u64> + Copy + 'static,
{
    let what = "a number of bytes such as 65536 or \"8MiB\"";
    let read = move |value: &Value<'_>| {
        let bytes = match value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => Some(bytes(text).ok_or_else(|| mistyped(value, what))?),
            _ => return Err(mistyped(value, what)),
        };
        let fitting = bytes.filter(|bytes| range.contains(bytes));
        let fitting = fitting.and_then(|bytes| T::try_from(bytes).ok());
        fitting.ok_or_else(|| vec![Wrong::new(value, Problem::Range)])
    };
    let write = |it: &T| {
        let bytes = (*it).try_into().unwrap_or(u64::MAX);
        let unit = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
        Text::One(match unit {
            Some((name, unit)) => format!("\"{}{name}\"", bytes / unit),
            None => bytes.to_string(),
        })
    };
    Form::new("bytes", read, write)
}

/// A duration in quotes.
pub(super) fn span(range: RangeInclusive<Duration>) -> Form<Duration> {
    let what = "a duration in quotes such as \"500ms\", \"10s\" or \"1m30s\"";
    let read = move |value: &Value<'_>| {
        let parsed = value.get_ref().as_str().and_then(|text| duration::parse(text).ok());
        let duration = parsed.ok_or_else(|| mistyped(value, what))?;
        let fits = range.contains(&duration);
        if fits { Ok(duration) } else { Err(vec![Wrong::new(value, Problem::Range)]) }
    };
    Form::new("duration", read, |it| Text::One(quoted(&duration::show(*it))))
}

/// Any duration that can be written.
pub(super) fn any_span() -> Form<Duration> {
    span(Duration::ZERO..=duration::LONGEST)
}

/// A text of any content.
pub(super) fn text() -> Form<String> {
    let what = "a text in quotes";
    Form::new(
        "text",
        move |value| {
            value.get_ref().as_str().map(str::to_owned).ok_or_else(|| mistyped(value, what))
        },
        |it: &String| Text::One(quoted(it)),
    )
}

/// A text without control characters, 1 to `most` bytes long.
pub(super) fn word(most: usize) -> Form<String> {
    text().checked(move |it| (1..=most).contains(&it.len()) && !it.chars().any(char::is_control))
}

/// A path from the root: a daemon has no directory of its own.
pub(super) fn path() -> Form<PathBuf> {
    let what = "a path in quotes that begins with /";
    let read = move |value: &Value<'_>| {
        let text = value.get_ref().as_str().ok_or_else(|| mistyped(value, what))?;
        // PATH_MAX of linux/limits.h counts the zero at the end.
        if text.starts_with('/') && text.len() < 4_096 && !text.contains(char::is_control) {
            Ok(PathBuf::from(text))
        } else {
            Err(mistyped(value, what))
        }
    };
    Form::new("path", read, |it| Text::One(quoted(&it.to_string_lossy())))
}

/// An IP address.
pub(super) fn address() -> Form<IpAddr> {
    parsed("address", "an IP address in quotes")
}

/// An IP address and a port.
pub(super) fn socket_address() -> Form<SocketAddr> {
    parsed("address", "an IP address and a port in quotes such as \"127.0.0.1:9641\"")
}

/// One of some words.
pub(super) fn choice<T>(what: &'static str, choices: &'static [(&'static str, T)]) -> Form<T>
where
    T: Copy + PartialEq + Send + Sync + 'static,
{
    let read = move |value: &Value<'_>| {
        let text = value.get_ref().as_str().ok_or_else(|| mistyped(value, what))?;
        let chosen = choices.iter().find(|(name, _)| *name == text);
        chosen.map(|(_, it)| *it).ok_or_else(|| vec![Wrong::new(value, Problem::Range)])
    };
    let write = move |it: &T| {
        let name = choices.iter().find(|(_, choice)| choice == it).map_or("", |(name, _)| name);
        Text::One(quoted(name))
    };
    Form::new("choice", read, write)
}

/// Each item of a list is compared with all before it.
const MOST_ITEMS: usize = 1_000;

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

pub(super) fn mistyped(value: &Value<'_>, what: &'static str) -> Vec<Wrong> {
    vec![Wrong::new(value, Problem::Type(what))]
}

/// A type that has a text form.
pub(super) fn parsed<T>(unit: &'static str, what: &'static str) -> Form<T>
where
    T: std::str::FromStr + fmt::Display + 'static,
{
    Form::new(
        unit,
        move |value| {
            let text = value.get_ref().as_str();
            text.and_then(|text| text.parse().ok()).ok_or_else(|| mistyped(value, what))
        },
        |it: &T| Text::One(quoted(&it.to_string())),
    )
}

fn bytes(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (digits, unit) = unit.unwrap_or((text, 1));
    // `parse` alone would take "+8MiB".
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(unit)
}

/// A value for a complaint.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => shown_text(&quoted(text)),
        DeValue::Integer(digits) => shown_text(&digits.to_string()),
        DeValue::Float(float) => shown_text(&float.to_string()),
        DeValue::Boolean(it) => it.to_string(),
        DeValue::Datetime(it) => it.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn shown_text(text: &str) -> String {
    escape::short(text, 80).into_owned()
}
