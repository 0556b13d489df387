//! Python's values in templates: how they print, tuples, and the filters where Jinja's differ from minijinja's.

use crate::{json, methods};
use minijinja::value::{Enumerator, Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State};
use std::fmt::{self, Write};
use std::sync::Arc;

/// `(a, b)`: a sequence that prints with round brackets.
#[derive(Debug)]
pub struct Tuple(pub Vec<Value>);

impl Object for Tuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        let _ = write_items(&mut self.0.iter().cloned(), '(', &mut out, 0);
        f.write_str(&out)
    }
}

pub fn tuple(items: impl IntoIterator<Item = Value>) -> Value {
    Value::from_object(Tuple(items.into_iter().collect()))
}

/// A float as Python's repr writes it: the shortest digits, an exponent from 1e16 up and below 1e-4.
pub fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, number) = exponent.strip_prefix('-').map_or(('+', exponent), |number| ('-', number));
        return format!("{digits}e{sign}{number:0>2}");
    }
    let text = value.to_string();
    let point = if text.contains('.') { "" } else { ".0" };
    text + point
}

/// The value of a number that is not an integer.
pub fn as_float(value: &Value) -> Option<f64> {
    let float = value.kind() == ValueKind::Number && !value.is_integer();
    float.then(|| f64::try_from(value.clone()).unwrap_or(f64::NAN))
}

fn string_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        let code = c as u32;
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            _ if code < 0x20 || (0x7f..0xa1).contains(&code) || code == 0xad => {
                let _ = write!(out, "\\x{code:02x}");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn write_items(
    items: &mut dyn Iterator<Item = Value>,
    open: char,
    out: &mut String,
    depth: usize,
) -> Result<(), Error> {
    out.push(open);
    let mut count = 0;
    for item in items {
        if count > 0 {
            out.push_str(", ");
        }
        write_repr(&item, out, depth + 1)?;
        count += 1;
    }
    match open {
        '(' if count == 1 => out.push_str(",)"),
        '(' => out.push(')'),
        _ => out.push(']'),
    }
    Ok(())
}

fn write_repr(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > 100 {
        return Err(Error::new(ErrorKind::InvalidOperation, "values nested too deeply to print"));
    }
    match value.kind() {
        ValueKind::String => string_repr(value.as_str().unwrap_or(""), out),
        ValueKind::Seq | ValueKind::Iterable => {
            let open = if value.downcast_object_ref::<Tuple>().is_some() { '(' } else { '[' };
            write_items(&mut value.try_iter()?, open, out, depth)?;
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(&key, out, depth + 1)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => match as_float(value) {
            Some(float) => out.push_str(&float_repr(float)),
            None => out.push_str(&value.to_string()),
        },
    }
    Ok(())
}

/// `str(value)`.
pub fn to_str(value: &Value) -> String {
    if let ValueKind::String | ValueKind::Undefined | ValueKind::Plain = value.kind() {
        return value.to_string();
    }
    let mut out = String::new();
    match write_repr(value, &mut out, 0) {
        Ok(()) => out,
        Err(_) => value.to_string(),
    }
}

fn int_filter(value: &Value, default: Option<i64>, _base: Option<i64>) -> Value {
    let default = default.unwrap_or(0);
    match value.kind() {
        ValueKind::Bool => Value::from(value.is_true() as i64),
        ValueKind::Number => as_float(value).map_or(value.clone(), |float| Value::from(float.trunc() as i64)),
        ValueKind::String => {
            let text = value.as_str().unwrap_or("").trim();
            let whole = text.parse::<i64>().ok();
            Value::from(whole.or_else(|| text.parse::<f64>().ok().map(|f| f as i64)).unwrap_or(default))
        }
        _ => Value::from(default),
    }
}

fn float_filter(value: &Value, default: Option<f64>) -> Value {
    let default = default.unwrap_or(0.0);
    Value::from(match value.kind() {
        ValueKind::Bool => value.is_true() as i64 as f64,
        ValueKind::Number => f64::try_from(value.clone()).unwrap_or(default),
        ValueKind::String => value.as_str().unwrap_or("").trim().parse().unwrap_or(default),
        _ => default,
    })
}

/// Python rounds to the nearest decimal of the exact value, ties to even.
fn round_filter(value: f64, precision: Option<i32>, method: Option<&str>) -> Result<f64, Error> {
    let precision = precision.unwrap_or(0).clamp(-300, 300);
    let scale = 10f64.powi(precision);
    match method.unwrap_or("common") {
        "common" if precision > 0 => Ok(format!("{value:.*}", precision as usize).parse().unwrap_or(value)),
        "common" => Ok((value * scale).round_ties_even() / scale),
        "ceil" => Ok((value * scale).ceil() / scale),
        "floor" => Ok((value * scale).floor() / scale),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "method must be common, ceil or floor")),
    }
}

fn join_filter(value: &Value, joiner: Option<&str>, attribute: Option<&str>) -> Result<String, Error> {
    let mut out = String::new();
    for (i, item) in methods::iterate(value)?.enumerate() {
        if i > 0 {
            out.push_str(joiner.unwrap_or(""));
        }
        out.push_str(&match attribute {
            Some(name) => to_str(&item.get_attr(name)?),
            None => to_str(&item),
        });
    }
    Ok(out)
}

fn word_count(text: &str) -> usize {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).count()
}

pub fn install(env: &mut Environment<'static>) {
    env.set_unknown_method_callback(methods::unknown_method);
    env.set_formatter(|out: &mut Output, _: &State, value: &Value| {
        out.write_str(&to_str(value)).map_err(Error::from)
    });
    env.add_function("_tuple", |items: Rest<Value>| tuple(items.0));
    env.add_filter("_same", |value: Value| value);
    env.add_filter("string", |value: &Value| to_str(value));
    env.add_filter("tojson", json::filter);
    env.add_filter("int", int_filter);
    env.add_filter("float", float_filter);
    env.add_filter("round", round_filter);
    env.add_filter("join", join_filter);
    env.add_filter("wordcount", word_count);
    env.add_filter("center", |text: &str, width: Option<usize>| {
        methods::pad(text, width.unwrap_or(80), ' ', 0.5)
    });
    for name in ["items", "dictsort"] {
        let plain = minijinja_filter(name);
        env.add_filter(name, move |state: &State, args: Rest<Value>| {
            plain(state, args.0).map(methods::pairs)
        });
    }
}

type Filter = Box<dyn Fn(&State, Vec<Value>) -> Result<Value, Error> + Send + Sync>;

/// minijinja's own filter of that name, in an environment of its own.
fn minijinja_filter(name: &'static str) -> Filter {
    let env = Environment::new();
    Box::new(move |_, args| env.empty_state().apply_filter(name, &args))
}
