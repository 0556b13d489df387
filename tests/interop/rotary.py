"""Checkpoints with scaled rotary positions, beside transformers.

    rotary.py GRAFT MAKE_ADAPTER [--only REGEX] [--keep DIR]

For each configuration: equal logits in `graft forward` for sequences shorter than the trained length, longer, and of both sorts in one
batch, padded on either side. transformers reads each batch with a model that has read nothing before: its dynamic scaling keeps what
the longest pass so far left behind.
"""
import json, os, subprocess

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
import torch
import transformers
from safetensors.torch import load_file, save_file

from harness import TOLERANCE, logits_of, run

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SMALL = dict(vocab_size=61, hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=48, pad_token_id=0, bos_token_id=1,
             eos_token_id=2)
TRAINED = 16
BATCHES = {"short": [9, 4, 7], "long": [41, 33, 37], "mixed": [5, 38, 16]}
FAMILIES = {
    "llama": (transformers.LlamaConfig, dict(num_key_value_heads=1)),
    "mistral": (transformers.MistralConfig, dict(num_key_value_heads=1, sliding_window=12)),
    "qwen2": (transformers.Qwen2Config, dict(num_key_value_heads=1)),
    "qwen3": (transformers.Qwen3Config, dict(num_key_value_heads=1, head_dim=12)),
    "gemma2": (transformers.Gemma2Config, dict(num_key_value_heads=1, head_dim=16, sliding_window=12, query_pre_attn_scalar=16)),
    "phi3": (transformers.Phi3Config, dict(num_key_value_heads=1)),
    "gpt_neox": (transformers.GPTNeoXConfig, dict()),
}
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=TRAINED)
DYNAMIC = dict(rope_type="dynamic", factor=4.0)
SHORT, LONG = [1.0, 1.1, 1.5, 1.3, 1.0, 2.0, 1.2, 1.7], [1.0, 2.5, 3.0, 4.5, 8.0, 6.0, 9.0, 12.0]


def longrope(waves, **keys):
    return dict(rope_type="longrope", short_factor=SHORT[:waves], long_factor=LONG[:waves], **keys)


ORIGINAL = dict(original_max_position_embeddings=TRAINED)
IN_PART = dict(partial_rotary_factor=0.5)
CASES = {  # family.variant → (rope_parameters, max_position_embeddings, other keys of config.json)
    "llama.yarn": (YARN, 4 * TRAINED, {}),
    "llama.yarn-theta": (YARN | dict(rope_theta=500.0), 4 * TRAINED, {}),
    "llama.yarn-betas": (YARN | dict(beta_fast=3.0, beta_slow=0.4), 4 * TRAINED, {}),
    "llama.yarn-not-truncated": (YARN | dict(truncate=False, beta_fast=4, beta_slow=0.2), 4 * TRAINED, {}),
    "llama.yarn-attention": (YARN | dict(attention_factor=0.7), 4 * TRAINED, {}),
    "llama.yarn-mscale": (YARN | dict(mscale=1.5, mscale_all_dim=0.6), 4 * TRAINED, {}),
    "llama.yarn-one-mscale": (YARN | dict(mscale=1.5), 4 * TRAINED, {}),
    "llama.yarn-original-missing": (dict(rope_type="yarn", factor=4.0), TRAINED, {}),
    "llama.yarn-original-outside": (YARN | dict(original_max_position_embeddings=32), 4 * TRAINED, ORIGINAL),
    "llama.yarn-no-factor": (YARN | dict(factor=None), 4 * TRAINED, {}),
    "llama.dynamic": (DYNAMIC, TRAINED, {}),
    "llama.longrope": (longrope(8, **ORIGINAL), 4 * TRAINED, {}),
    "llama.longrope-factor": (longrope(8, factor=32.0, **ORIGINAL), 4 * TRAINED, {}),
    "llama.longrope-attention": (longrope(8, attention_factor=1.3, **ORIGINAL), 4 * TRAINED, {}),
    "mistral.yarn": (YARN, 4 * TRAINED, {}),
    "mistral.dynamic": (DYNAMIC, TRAINED, {}),
    "qwen2.yarn": (YARN, TRAINED, {}),
    "qwen3.dynamic": (DYNAMIC, TRAINED, {}),
    "qwen3.yarn": (YARN, 4 * TRAINED, {}),
    "gemma2.yarn": (YARN, 4 * TRAINED, {}),
    "gemma2.dynamic": (DYNAMIC, TRAINED, {}),
    "phi3.longrope": (longrope(8), 4 * TRAINED, ORIGINAL),
    "phi3.longrope-in-part": (longrope(4, **IN_PART), 4 * TRAINED, ORIGINAL),
    "phi3.longrope-original-missing": (longrope(8), 4 * TRAINED, {}),
    "gpt_neox.yarn": (YARN | IN_PART, 4 * TRAINED, {}),
    "gpt_neox.dynamic": (DYNAMIC | IN_PART, TRAINED, {}),
    "gpt_neox.longrope": (longrope(4, **ORIGINAL, **IN_PART), 4 * TRAINED, {}),
}
OLDER = {  # variant → rope_scaling, with the names of older files
    "llama.yarn": dict(YARN, rope_type=None, type="yarn", finetuned=True),
    "llama.dynamic": dict(DYNAMIC, rope_type=None, type="dynamic"),
    "phi3.longrope": dict(longrope(8, **ORIGINAL), rope_type=None, type="su"),
    "phi3.longrope-in-part": dict(longrope(4), rope_type=None, type="yarn"),
    "gpt_neox.yarn": dict(YARN, rope_type=None, type="yarn"),
}


def write_model(variant, folder, older):
    family = variant.split(".")[0]
    kind, keys = FAMILIES[family]
    parameters, positions, others = CASES[variant]
    config = kind(**SMALL, **keys, **others, max_position_embeddings=positions, rope_parameters=dict(parameters))
    torch.manual_seed(len(variant))
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in model.parameters():  # enough for attention to tell positions apart
            p.add_(torch.randn(p.shape) * 0.3)
    model.save_pretrained(folder)
    if older:
        rewrite(os.path.join(folder, "config.json"), family, OLDER[variant])


def rewrite(path, family, scaling):
    """rope_parameters as files had it before transformers 5."""
    with open(path) as f:
        config = json.load(f)
    parameters = config.pop("rope_parameters")
    part = parameters.get("partial_rotary_factor", 1.0)
    config["rope_scaling"] = {key: value for key, value in scaling.items() if value is not None}
    config |= dict(rotary_emb_base=parameters["rope_theta"], rotary_pct=part) if family == "gpt_neox" else dict(
        rope_theta=parameters["rope_theta"])
    if family == "phi3":
        config["partial_rotary_factor"] = part
    with open(path, "w") as f:
        json.dump(config, f)


def padded(lengths, left):
    torch.manual_seed(sum(lengths))
    columns = torch.arange(max(lengths))[None]
    sizes = torch.tensor(lengths)[:, None]
    mask = (columns >= max(lengths) - sizes if left else columns < sizes).long()
    return {"input_ids": torch.randint(5, SMALL["vocab_size"], mask.shape) * mask, "attention_mask": mask}


def graft_logits(graft, folder, inputs, work):
    save_file(inputs, os.path.join(work, "inputs.safetensors"))
    out = os.path.join(work, "out.safetensors")
    subprocess.run([graft, "forward", "--model", folder, "--inputs", os.path.join(work, "inputs.safetensors"), "--out", out, "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)
    return load_file(out)["logits"]


def transformers_logits(folder, inputs, **changes):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **changes)
    return logits_of(model.eval(), inputs)


def difference(ours, theirs, inputs):
    used = inputs["attention_mask"].bool()
    return float((ours - theirs)[used].abs().max() / theirs[used].abs().max())


def check(variant, older, args, work):
    folder = os.path.join(work, "model")
    write_model(variant, folder, older)
    complaints, largest = [], 0
    for name, lengths in BATCHES.items():
        for left in (False, True):
            inputs = padded(lengths, left)
            error = difference(graft_logits(args.graft, folder, inputs, work), transformers_logits(folder, inputs), inputs)
            largest = max(largest, error)
            if not error < TOLERANCE:
                complaints.append(f"{name}, padded {'left' if left else 'right'}: logits differ by {error:.1e}")
    # Else the comparison would say nothing.
    inputs = padded(BATCHES["long"], False)
    plain = dict(CASES[variant][0], rope_type="default") | dict(rope_theta=10000.0)
    moved = difference(transformers_logits(folder, inputs, rope_parameters=plain), transformers_logits(folder, inputs), inputs)
    if not moved > 100 * TOLERANCE:
        complaints.append(f"scaling moves the logits by {moved:.1e} only")
    if args.keep:
        with open(os.path.join(work, "difference.json"), "w") as f:
            json.dump({"difference": largest, "scaling moves": moved}, f)
    return complaints


def cases():
    for variant in CASES:
        yield variant, lambda args, work, variant=variant: check(variant, False, args, work)
    for variant in OLDER:
        yield f"{variant}.older", lambda args, work, variant=variant: check(variant, True, args, work)


if __name__ == "__main__":
    run(__doc__, cases(), f"transformers {transformers.__version__}")
