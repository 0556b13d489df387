//! Chat templates as transformers renders them: Jinja with Python's values showing through.

use crate::abi::{guarded, put, OwnedString, Text};
use crate::python;
use crate::rewrite::rewrite;
use minijinja::{Environment, Error, ErrorKind, Value};
use std::sync::{Arc, Mutex};

/// Steps after which a template counts as endless: the longest real conversations take thousands of them.
const FUEL: u64 = 50_000_000;

type Raised = Arc<Mutex<Option<String>>>;

fn strftime_now(format: &str) -> Result<String, Error> {
    let format = std::ffi::CString::new(format)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "strftime_now: embedded null character"))?;
    let mut buffer = [0u8; 1024];
    // SAFETY: the buffer's size is given, the format ends in NUL, and the broken-down time is ours.
    let size = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut local: libc::tm = std::mem::zeroed();
        libc::localtime_r(&now, &mut local);
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &local)
    };
    Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
}

fn environment(raised: &Raised) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_fuel(Some(FUEL));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let raised = raised.clone();
    env.add_function("raise_exception", move |message: Value| -> Result<Value, Error> {
        let message = python::to_str(&message);
        *raised.lock().unwrap() = Some(message.clone());
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", |format: &str| strftime_now(format));
    python::install(&mut env);
    env
}

fn prepare(source: &str) -> String {
    rewrite(&source.replace("\r\n", "\n").replace('\r', "\n"))
}

fn describe(error: &Error) -> String {
    let mut text = match error.line() {
        Some(line) => format!("line {line}: {error}"),
        None => error.to_string(),
    };
    if let Some(at) = text.find(" (in <string>:") {
        text.truncate(at);
    }
    text
}

fn render(source: &str, variables: &str, raised: &Raised) -> Result<String, String> {
    let variables: serde_json::Value =
        serde_json::from_str(variables).map_err(|e| format!("the variables are not JSON: {e}"))?;
    let source = prepare(source);
    let env = environment(raised);
    let template = env.template_from_str(&source).map_err(|e| describe(&e))?;
    template.render(Value::from_serialize(&variables)).map_err(|e| describe(&e))
}

/// # Safety
/// As include/textkit.h says; the places are valid.
#[no_mangle]
pub unsafe extern "C" fn textkit_render(
    source: Text,
    variables: Text,
    out: *mut OwnedString,
    error: *mut OwnedString,
    raised: *mut i32,
) -> i32 {
    let said: Raised = Raised::default();
    let result =
        guarded(|| render(source.as_str("the template")?, variables.as_str("the variables")?, &said));
    let message = said.lock().ok().and_then(|said| said.clone());
    raised.write(0);
    match result {
        Ok(text) => {
            put(out, text);
            1
        }
        Err(described) => {
            raised.write(message.is_some() as i32);
            put(error, message.unwrap_or(described));
            0
        }
    }
}
