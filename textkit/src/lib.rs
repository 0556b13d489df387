//! Tokenizers and chat templates behind a C ABI (include/textkit.h).

mod abi;
mod tokenizer;
