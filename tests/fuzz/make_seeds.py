#!/usr/bin/env python3
"""make_seeds.py DIR: writes the fuzz targets' first inputs to DIR/TARGET/, made from the tree's own recipes, configs and tokenizers
and from small files that are wrong in one place each. Words that the readers know go to DIR/TARGET.dict."""
import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def safetensors(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, size in sizes.items():
        header[name] = entry(name, [1, 2], at, at + 2 * size)
        at += 2 * size
    whole = safetensors(header, bytes(at))
    return [whole, whole[:-1], whole[:20], b"", safetensors({}, b""), safetensors({}, b"", 1 << 62),
            safetensors({"a": entry("F32", [2, 0, 3], 0, 0)}, b""),
            safetensors({"a": entry("F32", [], 0, 4)}, bytes(4)),
            safetensors({"a": entry("F8_E4M3", [4], 0, 4)}, bytes(4)),
            safetensors({"a": entry("F32", [1 << 62, 1 << 62], 0, 4)}, bytes(4)),
            safetensors({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, bytes(3)),
            safetensors({"a": entry("U8", [1], 0, 1), "b": entry("I32", [1], 1, 5)}, bytes(5)),
            safetensors(b'{"a":' + b"[" * 300, b"")]


def recipe_seeds():
    seeds = [path.read_bytes() for path in sorted((ROOT / "recipes").rglob("*.yaml"))]
    recipe = {"model": {"path": "m", "dtype": "bfloat16"}, "method": {"name": "lora", "r": 8, "lora_alpha": 16, "target_modules": ["query"]},
              "task": {"name": "glue/mrpc"}, "data": {"train": "a.tsv", "validation": "b.tsv"},
              "train": {"epochs": 3, "learning_rate": 4e-4, "schedule": "linear", "warmup_ratio": 0.06, "betas": [0.9, 0.999]}, "output": "runs/a"}
    return seeds + [json.dumps(recipe).encode(), b"model: m\nmethod: lora\ntask: sst2\noutput: o\n", b"train.seed=2", b"method.0.r=4",
                    b"a: &a [1, *a]\n", b"a: &a [1]\nb: [*a, *a]\n", b"? [a]\n: !!str 1\n", b"--- |\n x\n...\n--- 2\n", b"a: \"\\u12\"", b"[" * 300]


def adapter_seeds():
    lora = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "m", "bias": "none", "fan_in_fan_out": False,
            "inference_mode": True, "init_lora_weights": True, "lora_alpha": 16, "lora_dropout": 0.1, "r": 2, "rank_pattern": {},
            "alpha_pattern": {}, "modules_to_save": None, "layers_to_transform": None, "target_modules": ["query", "value"], "use_rslora": False,
            "use_dora": False, "exclude_modules": None, "lora_bias": False, "trainable_token_indices": None}
    changes = [{}, {"target_modules": "all-linear"}, {"target_modules": ".*query$"}, {"target_modules": "(((("}, {"r": 10**15}, {"r": -1},
               {"rank_pattern": {"query": 4}, "alpha_pattern": {".*": 1}}, {"trainable_token_indices": [0, 7, 99]}, {"modules_to_save": ["classifier"]},
               {"layers_to_transform": [0], "layers_pattern": "layer"}, {"bias": "all"}, {"use_dora": True}, {"peft_type": "IA3"}, {"peft_type": 3}]
    return [json.dumps(lora | change).encode() for change in changes] + [b"", b"[]", b"{"]


def model_config_seeds():
    paths = sorted((ROOT / "recipes/pretrain").glob("*.json")) + sorted((ROOT / "tests/reference/models").glob("*/config.json"))
    configs = [json.loads(path.read_text()) for path in paths]
    configs += [{"model_type": "bert"}, {"model_type": "none"}, {},
                {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
                 "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 32}},
                {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 32,
                 "rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.5,
                                  "truncate": False}},
                {"model_type": "gpt_neox", "hidden_size": 16, "num_attention_heads": 2, "rotary_pct": 0.5,
                 "rope_scaling": {"type": "dynamic", "factor": 2}},
                {"model_type": "phi3", "hidden_size": 8, "num_attention_heads": 2, "original_max_position_embeddings": 16,
                 "rope_parameters": {"rope_type": "longrope", "short_factor": [1, 1.5], "long_factor": [2, 4], "attention_factor": 1.2}},
                {"model_type": "bert", "hidden_size": 7, "num_attention_heads": 2, "id2label": {"0": "a"}, "num_labels": 3}]
    return [json.dumps(config).encode() for config in configs] + [b"", b"[]"]


def sentencepiece_model():
    """A model of three pieces, as protobuf: repeated ModelProto.pieces {piece, score, type}."""
    def piece(text, score, kind):
        body = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        return b"\x0a" + bytes([len(body)]) + body
    return piece(b"<unk>", 0, 2) + piece(b"<s>", 0, 3) + piece(b"</s>", 0, 3) + piece("▁a".encode(), -1, 1)


def tokenizer_seeds():
    small = {"version": "1.0", "added_tokens": [{"id": 0, "content": "[UNK]", "special": True, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False}], "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
             "post_processor": None, "decoder": None, "truncation": None, "padding": None,
             "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "hello": 1}, "unk_token": "[UNK]"}}
    bpe = small | {"model": {"type": "BPE", "vocab": {"h": 0, "e": 1, "he": 2}, "merges": [["h", "e"]], "unk_token": None}}
    config = {"bos_token": "<s>", "added_tokens_decoder": {"5": {"content": "<s>", "special": True}}, "tokenizer_class": "BertTokenizer",
              "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"}
    return [b"\0" + json.dumps(small).encode(), b"\0" + json.dumps(bpe).encode(), b"\1" + sentencepiece_model(), b"\2[UNK]\n[CLS]\n[SEP]\na\n",
            b"\3" + json.dumps(config).encode(), b"\4{% for m in messages %}{{ m['content'].strip() }}{% endfor %}", b"\4{{ raise_exception('no') }}"]


WORDS = {"safetensors": ["dtype", "shape", "data_offsets", "__metadata__", "F32", "BF16", "BOOL", "I64", "F8_E4M3", "18446744073709551615"],
         "recipe": ["model", "method", "lora", "task", "data", "train", "output", "path", "dtype", "seed", "schedule", "target_modules", ".inf", ".nan"],
         "adapter": ["peft_type", "LORA", "target_modules", "all-linear", "rank_pattern", "alpha_pattern", "modules_to_save",
                     "trainable_token_indices", "layers_to_transform", "layers_pattern", "lora_bias", "use_rslora", "query", "classifier"],
         "model_config": ["model_type", "bert", "llama", "hidden_size", "num_attention_heads", "head_dim", "rope_scaling", "rope_type", "id2label",
                          "architectures", "hidden_act", "num_labels", "problem_type"],
         "tokenizer": ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "type", "vocab", "merges", "Sequence",
                       "TemplateProcessing", "ByteLevel", "Metaspace", "Unigram", "WordPiece", "special_tokens", "chat_template", "messages"]}


def main():
    target = pathlib.Path(sys.argv[1])
    for name, words in WORDS.items():
        (target / name).mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(globals()[name + "_seeds"]()):
            (target / name / f"seed-{number:02}").write_bytes(seed)
        (target / f"{name}.dict").write_text("".join(f'"{word}"\n' for word in words))


if __name__ == "__main__":
    main()
