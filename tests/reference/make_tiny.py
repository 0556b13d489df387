#!/usr/bin/env python3
"""make_tiny.py WHAT DIR: tiny random checkpoints and adapters, with the standard library only.

    encoder DIR [key=value …]   BERT, hidden 16, 2 layers, the tokenizer of assets/tiny-encoder; key=value changes config.json
    decoder DIR [key=value …]   LLaMA, hidden 16, 2 layers, tied, the tokenizer of assets/tiny-decoder
    adapter DIR MODEL_DIR       LoRA, r 4, on the model's query and value
    inputs FILE                 input_ids [2, 5] and attention_mask, for graft forward
    tensors FILE JSON           a safetensors file as the JSON says: {"name": [[shape], "F32", value], …}

The same call always writes the same bytes.
"""
import json
import pathlib
import random
import shutil
import struct
import sys

ASSETS = pathlib.Path(__file__).resolve().parent.parent.parent / "assets"

ENCODER = {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 1536, "hidden_size": 16, "num_hidden_layers": 2,
           "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2,
           "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0}
DECODER = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1536, "hidden_size": 16,
           "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32,
           "max_position_embeddings": 64, "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
           "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
FORMATS = {"F32": "f", "F64": "d", "I64": "q", "I32": "i"}


def write_safetensors(path, tensors):
    """tensors: name → (shape, dtype, values)."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (shape, dtype, values) in sorted(tensors.items()):
        raw = struct.pack(f"<{len(values)}{FORMATS[dtype]}", *values)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def count(shape):
    total = 1
    for size in shape:
        total *= size
    return total


def filled(shapes, seed):
    """Normal weights of deviation 0.1; norms are ones, biases are small."""
    rng = random.Random(seed)
    out = {}
    for name, shape in shapes.items():
        is_norm = "norm" in name.lower() and name.endswith("weight")
        out[name] = (shape, "F32", [1.0 if is_norm else rng.gauss(0, 0.1) for _ in range(count(shape))])
    return out


def encoder_shapes(c):
    h, m = c["hidden_size"], c["intermediate_size"]
    shapes = {"embeddings.word_embeddings.weight": (c["vocab_size"], h),
              "embeddings.position_embeddings.weight": (c["max_position_embeddings"], h),
              "embeddings.token_type_embeddings.weight": (c["type_vocab_size"], h),
              "embeddings.LayerNorm.weight": (h,), "embeddings.LayerNorm.bias": (h,)}
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        for name, size in {"attention.self.query": (h, h), "attention.self.key": (h, h), "attention.self.value": (h, h),
                           "attention.output.dense": (h, h), "attention.output.LayerNorm": (h,),
                           "intermediate.dense": (m, h), "output.dense": (h, m), "output.LayerNorm": (h,)}.items():
            shapes[layer + name + ".weight"] = size
            shapes[layer + name + ".bias"] = size[:1]
    shapes |= {"pooler.dense.weight": (h, h), "pooler.dense.bias": (h,)}
    return shapes


def decoder_shapes(c):
    h, m = c["hidden_size"], c["intermediate_size"]
    kv = h // c["num_attention_heads"] * c["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (c["vocab_size"], h), "model.norm.weight": (h,)}
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {layer + name + ".weight": size for name, size in {
            "self_attn.q_proj": (h, h), "self_attn.k_proj": (kv, h), "self_attn.v_proj": (kv, h), "self_attn.o_proj": (h, h),
            "mlp.gate_proj": (m, h), "mlp.up_proj": (m, h), "mlp.down_proj": (h, m),
            "input_layernorm": (h,), "post_attention_layernorm": (h,)}.items()}
    return shapes


def make_model(kind, folder, changes):
    config = dict(ENCODER if kind == "encoder" else DECODER)
    shapes = (encoder_shapes if kind == "encoder" else decoder_shapes)(config)
    for change in changes:
        key, _, value = change.partition("=")
        config[key] = json.loads(value)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", filled(shapes, kind))
    for path in sorted((ASSETS / f"tiny-{kind}").glob("tokenizer*")):
        shutil.copy(path, folder / path.name)


def make_adapter(folder, model):
    config = json.loads((model / "config.json").read_text())
    is_bert = config["model_type"] == "bert"
    shapes = (encoder_shapes if is_bert else decoder_shapes)(config)
    targets = ["query", "value"] if is_bert else ["q_proj", "v_proj"]
    lora = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module.rsplit(".")[-1] in targets:
            lora[f"base_model.model.{module}.lora_A.weight"] = (4, shape[1])
            lora[f"base_model.model.{module}.lora_B.weight"] = (shape[0], 4)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors", filled(lora, "adapter"))
    (folder / "adapter_config.json").write_text(json.dumps(
        {"base_model_name_or_path": str(model), "bias": "none", "lora_alpha": 8, "lora_dropout": 0.0, "peft_type": "LORA", "r": 4,
         "target_modules": targets, "task_type": None if is_bert else "CAUSAL_LM"}, indent=2, sort_keys=True))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    what, target, rest = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    if what in ("encoder", "decoder"):
        make_model(what, target, rest)
    elif what == "adapter":
        make_adapter(target, pathlib.Path(rest[0]))
    elif what == "inputs":
        write_safetensors(target, {"input_ids": ((2, 5), "I64", [5, 6, 7, 8, 9, 10, 11, 12, 2, 2]),
                                   "attention_mask": ((2, 5), "I64", [1, 1, 1, 1, 1, 1, 1, 1, 0, 0])})
    elif what == "tensors":
        write_safetensors(target, {name: (shape, dtype, [value] * count(shape))
                                   for name, (shape, dtype, value) in json.loads(rest[0]).items()})
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
