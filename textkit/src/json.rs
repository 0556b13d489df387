//! `tojson` as transformers defines it: Python's json.dumps with ensure_ascii off.

use crate::python::{as_float, float_repr};
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn write_string(text: &str, style: &Style, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (style.ensure_ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn number(value: &Value) -> String {
    match as_float(value) {
        Some(float) if float.is_nan() => "NaN".into(),
        Some(float) if float.is_infinite() => if float > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Some(float) => float_repr(float),
        None => value.to_string(),
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or("").to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::None => Ok("null".into()),
        ValueKind::Number => Ok(number(key)),
        kind => Err(wrong(format!("keys must be str, int, float, bool or None, not {kind}"))),
    }
}

fn new_line(style: &Style, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(indent.as_str(), depth));
    }
}

fn write_map(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if style.sort_keys {
        keys.sort();
    }
    out.push('{');
    for (i, key) in keys.iter().enumerate() {
        out.push_str(if i > 0 { &style.item } else { "" });
        new_line(style, depth + 1, out);
        write_string(&key_text(key)?, style, out);
        out.push_str(&style.key);
        write(&value.get_item(key)?, style, depth + 1, out)?;
    }
    if !keys.is_empty() {
        new_line(style, depth, out);
    }
    out.push('}');
    Ok(())
}

fn write_list(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    out.push('[');
    let mut count = 0;
    for item in value.try_iter()? {
        out.push_str(if count > 0 { &style.item } else { "" });
        new_line(style, depth + 1, out);
        write(&item, style, depth + 1, out)?;
        count += 1;
    }
    if count > 0 {
        new_line(style, depth, out);
    }
    out.push(']');
    Ok(())
}

fn write(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > 200 {
        return Err(wrong("tojson: nested too deeply"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_string(value.as_str().unwrap_or(""), style, out),
        ValueKind::Seq | ValueKind::Iterable => write_list(value, style, depth, out)?,
        ValueKind::Map => write_map(value, style, depth, out)?,
        ValueKind::Undefined => return Err(wrong("Object of type Undefined is not JSON serializable")),
        kind => return Err(wrong(format!("Object of type {kind} is not JSON serializable"))),
    }
    Ok(())
}

fn indent_text(indent: Option<Value>) -> Option<String> {
    let indent = indent.filter(|value| !value.is_none() && !value.is_undefined())?;
    Some(match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(indent.as_usize().unwrap_or(0).min(64)),
    })
}

/// tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)
pub fn filter(
    value: &Value,
    ascii: Option<bool>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let indent = indent_text(kwargs.get::<Option<Value>>("indent")?.or(indent));
    let mut style = Style {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.or(ascii).unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        item: if indent.is_some() { "," } else { ", " }.into(),
        key: ": ".into(),
        indent,
    };
    if let Some(separators) = kwargs.get::<Option<Value>>("separators")?.filter(|value| !value.is_none()) {
        let texts: Vec<Value> = separators.try_iter()?.collect();
        let [item, key] = &texts[..] else { return Err(wrong("separators must be two strings")) };
        (style.item, style.key) = (item.to_string(), key.to_string());
    }
    kwargs.assert_all_used()?;
    let mut out = String::new();
    write(value, &style, 0, &mut out)?;
    Ok(out)
}
