//! What crosses the boundary: borrowed texts in, owned strings out, and no panic.

use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::sync::Once;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    data: *const u8,
    size: usize,
}

impl Text {
    /// # Safety
    /// `data` points to `size` bytes that live for `'a`, or is null.
    pub unsafe fn as_str<'a>(self, what: &str) -> Result<&'a str, String> {
        let bytes: &'a [u8] = match (self.data.is_null(), self.size) {
            (_, 0) => &[],
            (true, _) => return Err(format!("{what} is missing")),
            (false, size) => std::slice::from_raw_parts(self.data, size),
        };
        std::str::from_utf8(bytes)
            .map_err(|e| format!("{what} is not UTF-8: wrong byte at {}", e.valid_up_to()))
    }
}

#[repr(C)]
pub struct OwnedString {
    data: *mut u8,
    size: usize,
}

impl OwnedString {
    pub fn new(text: String) -> Self {
        let bytes = text.into_bytes().into_boxed_slice();
        let size = bytes.len();
        OwnedString { data: Box::into_raw(bytes) as *mut u8, size }
    }
}

/// # Safety
/// `string` came from this crate and is freed once.
#[no_mangle]
pub unsafe extern "C" fn textkit_string_free(string: OwnedString) {
    if !string.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(string.data, string.size)));
    }
}

/// # Safety
/// `out` is null or points to a place for an `OwnedString`.
pub unsafe fn put(out: *mut OwnedString, text: String) {
    if !out.is_null() {
        out.write(OwnedString::new(text));
    }
}

/// Runs `work`; a panic becomes an error, and says nothing on standard error.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| set_hook(Box::new(|_| {})));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(format!("cannot be used: {said}"))
    })
}
