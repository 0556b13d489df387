//! Tokenizers of Hugging Face's `tokenizer.json`.

use crate::abi::{guarded, put, OwnedString, Text};
use tokenizers::parallelism::MaybeParallelRefIterator;
use tokenizers::Tokenizer;

#[repr(C)]
pub struct Input {
    text: Text,
    pair: Text,
    has_pair: u8,
    add_special_tokens: u8,
}

struct Encoded {
    ids: Vec<i64>,
    type_ids: Vec<i64>,
    offsets: Vec<i64>,
    special: Vec<u8>,
}

pub struct Encodings(Vec<Encoded>);

#[repr(C)]
pub struct EncodingView {
    size: usize,
    ids: *const i64,
    type_ids: *const i64,
    offsets: *const i64,
    special: *const u8,
}

fn open(json: &str) -> Result<Tokenizer, String> {
    let mut tokenizer: Tokenizer = json.parse().map_err(|e| format!("{e}"))?;
    tokenizer.with_truncation(None).map_err(|e| format!("{e}"))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// # Safety
/// As include/textkit.h says; `error` is a valid place.
#[no_mangle]
pub unsafe extern "C" fn textkit_tokenizer_open(json: Text, error: *mut OwnedString) -> *mut Tokenizer {
    match guarded(|| open(json.as_str("the text")?)) {
        Ok(tokenizer) => Box::into_raw(Box::new(tokenizer)),
        Err(message) => {
            put(error, message);
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// `tokenizer` came from textkit_tokenizer_open and is freed once.
#[no_mangle]
pub unsafe extern "C" fn textkit_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, pair: Option<&str>, special: bool) -> Result<Encoded, String> {
    let encoding = match pair {
        Some(pair) => tokenizer.encode_char_offsets((text, pair), special),
        None => tokenizer.encode_char_offsets(text, special),
    }
    .map_err(|e| format!("{e}"))?;
    Ok(Encoded {
        ids: encoding.get_ids().iter().map(|&v| v as i64).collect(),
        type_ids: encoding.get_type_ids().iter().map(|&v| v as i64).collect(),
        offsets: encoding.get_offsets().iter().flat_map(|&(start, end)| [start as i64, end as i64]).collect(),
        special: encoding.get_special_tokens_mask().iter().map(|&v| v as u8).collect(),
    })
}

type Prepared<'a> = (&'a str, Option<&'a str>, bool);

unsafe fn prepare<'a>(inputs: &'a [Input]) -> Result<Vec<Prepared<'a>>, String> {
    let one = |input: &Input| {
        let pair = (input.has_pair != 0).then(|| input.pair.as_str("the second text"));
        Ok((input.text.as_str("the text")?, pair.transpose()?, input.add_special_tokens != 0))
    };
    inputs.iter().map(one).collect()
}

/// # Safety
/// As include/textkit.h says: `inputs` are `count`, `error` is a valid place.
#[no_mangle]
pub unsafe extern "C" fn textkit_encode(
    tokenizer: &Tokenizer,
    inputs: *const Input,
    count: usize,
    error: *mut OwnedString,
) -> *mut Encodings {
    let work = || {
        let inputs = if count == 0 { &[][..] } else { std::slice::from_raw_parts(inputs, count) };
        let prepared = prepare(inputs)?;
        let one = |&(text, pair, special): &Prepared| encode(tokenizer, text, pair, special);
        if count == 1 {
            return Ok(Encodings(vec![one(&prepared[0])?]));
        }
        let all: Result<Vec<_>, String> = prepared.maybe_par_iter().map(one).collect();
        Ok(Encodings(all?))
    };
    match guarded(work) {
        Ok(encodings) => Box::into_raw(Box::new(encodings)),
        Err(message) => {
            put(error, message);
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// `out` is a valid place.
#[no_mangle]
pub unsafe extern "C" fn textkit_encodings_get(
    encodings: &Encodings,
    index: usize,
    out: *mut EncodingView,
) -> i32 {
    let Some(encoded) = encodings.0.get(index) else { return 0 };
    out.write(EncodingView {
        size: encoded.ids.len(),
        ids: encoded.ids.as_ptr(),
        type_ids: encoded.type_ids.as_ptr(),
        offsets: encoded.offsets.as_ptr(),
        special: encoded.special.as_ptr(),
    });
    1
}

/// # Safety
/// `encodings` came from textkit_encode and is freed once.
#[no_mangle]
pub unsafe extern "C" fn textkit_encodings_free(encodings: *mut Encodings) {
    if !encodings.is_null() {
        drop(Box::from_raw(encodings));
    }
}

/// # Safety
/// As include/textkit.h says: `ids` are `count`, `out` and `error` are valid places.
#[no_mangle]
pub unsafe extern "C" fn textkit_decode(
    tokenizer: &Tokenizer,
    ids: *const i64,
    count: usize,
    skip_special_tokens: i32,
    out: *mut OwnedString,
    error: *mut OwnedString,
) -> i32 {
    let work = || {
        let ids = if count == 0 { &[][..] } else { std::slice::from_raw_parts(ids, count) };
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        tokenizer.decode(&ids, skip_special_tokens != 0).map_err(|e| format!("{e}"))
    };
    match guarded(work) {
        Ok(text) => {
            put(out, text);
            1
        }
        Err(message) => {
            put(error, message);
            0
        }
    }
}

#[no_mangle]
pub extern "C" fn textkit_vocab_size(tokenizer: &Tokenizer) -> usize {
    guarded(|| Ok(tokenizer.get_vocab_size(true))).unwrap_or(0)
}

/// # Safety
/// As include/textkit.h says.
#[no_mangle]
pub unsafe extern "C" fn textkit_token_id(tokenizer: &Tokenizer, token: Text) -> i64 {
    guarded(|| Ok(tokenizer.token_to_id(token.as_str("the token")?))).ok().flatten().map_or(-1, i64::from)
}

/// # Safety
/// `out` is a valid place.
#[no_mangle]
pub unsafe extern "C" fn textkit_id_token(tokenizer: &Tokenizer, id: i64, out: *mut OwnedString) -> i32 {
    let token =
        u32::try_from(id).ok().and_then(|id| guarded(|| Ok(tokenizer.id_to_token(id))).ok().flatten());
    match token {
        Some(token) => {
            put(out, token);
            1
        }
        None => 0,
    }
}
