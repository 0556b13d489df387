//! Methods of Python's strings and dicts that minijinja-contrib's pycompat lacks, or gives other answers for.

use crate::python::tuple;
use minijinja::value::{from_args, Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// A string's characters, or a sequence's items.
pub fn iterate(value: &Value) -> Result<Box<dyn Iterator<Item = Value>>, Error> {
    Ok(match value.as_str() {
        Some(text) => Box::new(text.chars().map(Value::from).collect::<Vec<_>>().into_iter()),
        None => Box::new(value.try_iter()?),
    })
}

/// A list of two-item lists → the same of tuples.
pub fn pairs(list: Value) -> Value {
    match list.try_iter() {
        Ok(items) => items.map(|pair| pair.try_iter().map(tuple).unwrap_or(pair)).collect(),
        Err(_) => list,
    }
}

/// Pads to `width` characters; `left` of the padding stands in front.
pub fn pad(text: &str, width: usize, with: char, left: f64) -> String {
    let missing = width.min(100_000).saturating_sub(text.chars().count());
    let front = (missing as f64 * left) as usize;
    let fill = |count| std::iter::repeat_n(with, count);
    fill(front).chain(text.chars()).chain(fill(missing - front)).collect()
}

fn split_right(text: &str, separator: Option<&str>, most: i64) -> Value {
    let limit = if most < 0 { usize::MAX } else { most as usize };
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = if separator.is_none() { text.trim_end() } else { text };
    while parts.len() < limit {
        let found = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rfind(char::is_whitespace).map(|at| {
                let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                (rest[..at].trim_end(), &rest[at + width..])
            }),
        };
        let Some((before, after)) = found else { break };
        parts.push(after);
        rest = before;
    }
    if separator.is_some() || !rest.trim_start().is_empty() {
        parts.push(if separator.is_some() { rest } else { rest.trim_start() });
    }
    parts.into_iter().rev().map(Value::from).collect()
}

/// partition and rpartition: the parts around the separator, which stands where `else_first` says if it is not found.
fn partition(text: &str, separator: &str, found: Option<(&str, &str)>, else_first: bool) -> Value {
    let (before, middle, after) = match found {
        Some((before, after)) => (before, separator, after),
        None if else_first => (text, "", ""),
        None => ("", "", text),
    };
    tuple([before, middle, after].map(Value::from))
}

fn characters_before(text: &str, at: Option<usize>) -> i64 {
    at.map_or(-1, |at| text[..at].chars().count() as i64)
}

fn swap_case(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

fn zero_fill(text: &str, width: usize) -> String {
    match text.strip_prefix(['-', '+']) {
        Some(digits) => text[..1].to_owned() + &pad(digits, width.saturating_sub(1), '0', 1.0),
        None => pad(text, width, '0', 1.0),
    }
}

fn fill_char(with: Option<&str>) -> char {
    with.and_then(|text| text.chars().next()).unwrap_or(' ')
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "rsplit" => {
            let (separator, most, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let most = kwargs.get::<Option<i64>>("maxsplit")?.or(most).unwrap_or(-1);
            let named = kwargs.get::<Option<&str>>("sep")?;
            split_right(text, separator.or(named).filter(|s| !s.is_empty()), most)
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, text.split_once(separator), true)
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, text.rsplit_once(separator), false)
        }
        "find" | "rfind" | "index" | "rindex" => {
            let (what,): (&str,) = from_args(args)?;
            let found = if name.starts_with('r') { text.rfind(what) } else { text.find(what) };
            if found.is_none() && name.ends_with("index") {
                return Err(Error::new(ErrorKind::InvalidOperation, "substring not found"));
            }
            Value::from(characters_before(text, found))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "ljust" | "rjust" | "center" => {
            let (width, with): (usize, Option<&str>) = from_args(args)?;
            let left = match name {
                "ljust" => 0.0,
                "rjust" => 1.0,
                _ => 0.5,
            };
            Value::from(pad(text, width, fill_char(with), left))
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            Value::from(zero_fill(text, width))
        }
        "swapcase" => Value::from(swap_case(text)),
        "casefold" => Value::from(text.to_lowercase()),
        "split" if args.last().is_some_and(Value::is_kwargs) => {
            let (separator, kwargs): (Option<&str>, Kwargs) = from_args(args)?;
            let separator = kwargs.get::<Option<&str>>("sep")?.or(separator);
            let most = kwargs.get::<Option<i64>>("maxsplit")?.unwrap_or(-1);
            return pycompat_split(text, separator, most).map(Some);
        }
        _ => return Ok(None),
    }))
}

fn pycompat_split(text: &str, separator: Option<&str>, most: i64) -> Result<Value, Error> {
    let limit = if most < 0 { usize::MAX } else { most as usize + 1 };
    Ok(match separator {
        Some(separator) => text.splitn(limit, separator).map(Value::from).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_start();
            while !rest.is_empty() {
                let end =
                    rest.find(char::is_whitespace).filter(|_| parts.len() + 1 < limit).unwrap_or(rest.len());
                parts.push(Value::from(&rest[..end]));
                rest = rest[end..].trim_start();
            }
            Value::from(parts)
        }
    })
}

pub fn unknown_method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if let Some(answer) = string_method(text, name, args)? {
            return Ok(answer);
        }
    }
    let answer = minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)?;
    let items = value.kind() == ValueKind::Map && name == "items";
    Ok(if items { pairs(answer) } else { answer })
}
