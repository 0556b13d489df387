//! Tokenizers and chat templates behind a C ABI (include/textkit.h).

mod abi;
mod json;
mod methods;
mod python;
mod rewrite;
mod template;
mod tokenizer;
