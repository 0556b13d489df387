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
    if model == "gpt2":
        rows["lora-pissa"] = lora(init_lora_weights="pissa")
        return rows
    rows.update({
        "lora-dora": lora(use_dora=True, target_modules=[q, v]),
        "lora-pissa": lora(init_lora_weights="pissa", use_rslora=True),
        "lora-olora": lora(init_lora_weights="olora"),
        "lora-orthogonal": lora(init_lora_weights="orthogonal"),
    })
    if model == "llama":
        rows["lora-layer-replication"] = lora(layer_replication=[[0, 2], [1, 2], [0, 1]])
    for name, (kind, keys, merges) in OTHERS.items():
        if name in ONLY and model != ONLY[name]:
            continue
        keys = dict(task_type=task, **keys)
        if name == "ln-tuning":
            keys["target_modules"] = ["LayerNorm"] if model == "bert" else ["input_layernorm", "norm"]
        rows[name] = (lambda kind=kind, keys=keys: kind(**keys), merges)
    return rows


PROMPT = dict(num_virtual_tokens=3)
OTHERS = {  # variant → (PEFT's configuration, its keys, whether it merges)
    "adalora": (peft.AdaLoraConfig, dict(init_r=4, target_r=2, lora_alpha=6, total_step=10), True),
    "vera": (peft.VeraConfig, dict(r=8, d_initial=0.5), True),
    "loha": (peft.LoHaConfig, dict(r=3, alpha=5), True),
    "lokr": (peft.LoKrConfig, dict(r=2, alpha=5), True),
    "ia3": (peft.IA3Config, dict(), True),
    "oft": (peft.OFTConfig, dict(oft_block_size=8), True),
    "oft-exact": (peft.OFTConfig, dict(oft_block_size=8, use_cayley_neumann=False, block_share=True), True),
    "boft": (peft.BOFTConfig, dict(boft_block_size=4), True),
    "hra": (peft.HRAConfig, dict(r=4), True),
    "fourierft": (peft.FourierFTConfig, dict(n_frequency=60, scaling=20.0), True),
    "miss": (peft.MissConfig, dict(r=4), True),
    "shira": (peft.ShiraConfig, dict(r=2, random_seed=5), True),
    "hira": (peft.HiraConfig, dict(r=3), True),
    "c3a": (peft.C3AConfig, dict(block_size=8), True),
    "delora": (peft.DeloraConfig, dict(r=3, lambda_pattern={"value|v_proj": 4.0}), True),
    "randlora": (peft.RandLoraConfig, dict(r=5), True),
    "randlora-sparse": (peft.RandLoraConfig, dict(r=8, sparse=True, save_projection=False), True),
    "vblora": (peft.VBLoRAConfig, dict(r=2, num_vectors=10, vector_length=8), True),
    "road": (peft.RoadConfig, dict(group_size=8), True),
    "road-4": (peft.RoadConfig, dict(group_size=4, variant="road_4"), True),
    "ln-tuning": (peft.LNTuningConfig, dict(), True),
    "trainable-tokens": (peft.TrainableTokensConfig, dict(token_indices=[3, 7, 50]), True),
    "prompt-tuning": (peft.PromptTuningConfig, PROMPT, False),
    "p-tuning": (peft.PromptEncoderConfig, dict(PROMPT, encoder_hidden_size=12), False),
    "p-tuning-lstm": (peft.PromptEncoderConfig, dict(PROMPT, encoder_hidden_size=12, encoder_reparameterization_type="LSTM"), False),
    "multitask": (peft.MultitaskPromptTuningConfig, dict(PROMPT, num_tasks=2, num_ranks=2), False),
    "prefix-tuning": (peft.PrefixTuningConfig, PROMPT, False),
    "prefix-projection": (peft.PrefixTuningConfig, dict(PROMPT, prefix_projection=True, encoder_hidden_size=12), False),
}
ONLY = {"oft-exact": "llama", "multitask": "llama", "p-tuning-lstm": "llama", "prefix-projection": "bert", "trainable-tokens": "llama"}  # variant → its one model


def recipe_keys(config):
    """The keys that a recipe would give for this configuration: all that differ from the defaults."""
    keys = {"name": config.peft_type.value.lower()}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in ("peft_type", "task_type", "peft_version", "runtime_config", "inference_mode"):
            continue
        default = field.default if field.default is not dataclasses.MISSING else (
            field.default_factory() if field.default_factory is not dataclasses.MISSING else None)
        if value != default:
            keys[field.name] = sorted(value) if isinstance(value, set) else value
    return keys
