// Tokenizers and chat templates of the Rust crate textkit.
#pragma once
