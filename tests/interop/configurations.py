"""The models and adapter configurations that interop.py takes from PEFT to graft and back: a new method is one more row."""
import dataclasses

import peft
import transformers

SMALL = dict(vocab_size=101, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=48)
MODELS = {  # name → (config, PEFT's task type)
    "bert": (transformers.BertConfig(**SMALL, max_position_embeddings=32, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
                                     num_labels=3), "SEQ_CLS"),
    "llama": (transformers.LlamaConfig(**SMALL, num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0,
                                       tie_word_embeddings=False), "CAUSAL_LM"),
    "gpt2": (transformers.GPT2Config(vocab_size=101, n_embd=32, n_head=4, n_layer=2, n_positions=64, resid_pdrop=0, embd_pdrop=0,
                                     attn_pdrop=0, pad_token_id=0, bos_token_id=1, eos_token_id=2), "CAUSAL_LM"),
}
NAMES = {  # query, value, word embedding, a module to save
    "bert": ("query", "value", "word_embeddings", "pooler"),
    "llama": ("q_proj", "v_proj", "embed_tokens", "lm_head"),
    "gpt2": ("c_attn", "c_fc", "wte", "ln_f"),
}


def CONFIGURATIONS(model):
    """variant → (function that makes the configuration, whether its merged form must agree)"""
    task = MODELS[model][1]
    q, v, embedding, save = NAMES[model]
    lora = lambda **k: (lambda: peft.LoraConfig(**{**dict(task_type=task, r=4, lora_alpha=6), **k}), True)
    rows = {
        "lora": lora(),
        "lora-rslora": lora(use_rslora=True),
        "lora-patterns": lora(target_modules=[q, v], rank_pattern={f".*\\.0\\..*{q}": 2, v: 3}, alpha_pattern={v: 5}),
        "lora-bias-all": lora(bias="all"),
        "lora-bias-lora-only": lora(bias="lora_only"),
        "lora-modules-to-save": lora(modules_to_save=[save]),
        "lora-embedding": (lora(target_modules=[embedding, q])[0], model != "gpt2"),  # PEFT's merge changes the tied head too
        "lora-trainable-tokens": lora(trainable_token_indices=[3, 7, 50]),
        "lora-all-linear": lora(target_modules="all-linear"),
    }
    if model != "llama":
        rows["lora-lora-bias"] = lora(lora_bias=True)
    return rows


METHODS = {"LORA": "lora"}  # PEFT's method → graft's name of it


def recipe_keys(config):
    """The keys that a recipe would give for this configuration: all that differ from the defaults."""
    keys = {"name": METHODS.get(config.peft_type.value, config.peft_type.value.lower())}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in ("peft_type", "task_type", "peft_version", "runtime_config", "inference_mode"):
            continue
        default = field.default if field.default is not dataclasses.MISSING else (
            field.default_factory() if field.default_factory is not dataclasses.MISSING else None)
        if value != default:
            keys[field.name] = sorted(value) if isinstance(value, set) else value
    return keys
