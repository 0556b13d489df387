#!/usr/bin/env python3
"""tests/reference/make.py: writes tests/reference/{models,cases}: what transformers and PEFT compute with tiny random models.

Run it with the Python that `tools/setup peft` prints. Everything is computed in float64 from the files that were written, so that
what is compared is the program, not its rounding. A case is case.json, inputs.safetensors, adapter/ (PEFT's own files) and
expected.safetensors; NaN there means "not compared". `graft verify tests/reference/cases/*` computes the same.
"""
import json
import math
import os
import pathlib
import shutil
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 10
HYPER = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
AUTO = {"sequence_classification": transformers.AutoModelForSequenceClassification, "causal_lm": transformers.AutoModelForCausalLM}
PEFT_TASK = {"sequence_classification": "SEQ_CLS", "causal_lm": "CAUSAL_LM"}
# eps of the norms is larger than usual, so that a hard-coded one shows.
MODELS = {
    "bert-seqcls": ("sequence_classification", transformers.BertConfig(
        vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, max_position_embeddings=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, layer_norm_eps=1e-3, num_labels=3)),
    "llama-lm": ("causal_lm", transformers.LlamaConfig(
        vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
        max_position_embeddings=64, rms_norm_eps=1e-3, tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2)),
}
# Trained on eight positions; the longest row, and the end of what is generated, lie beyond.
SCALED = dict(vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, rms_norm_eps=1e-3,
              tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2)
ROTARY = {
    "llama-yarn": ("causal_lm", transformers.LlamaConfig(**SCALED, num_key_value_heads=1, max_position_embeddings=32, rope_parameters=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=8))),
    "llama-dynamic": ("causal_lm", transformers.LlamaConfig(**SCALED, num_key_value_heads=1, max_position_embeddings=8, rope_parameters=dict(
        rope_type="dynamic", factor=4.0))),
    "phi3-longrope": ("causal_lm", transformers.Phi3Config(
        **SCALED, max_position_embeddings=32, original_max_position_embeddings=8, rope_parameters=dict(
            rope_type="longrope", partial_rotary_factor=0.5, short_factor=[1.0, 1.5], long_factor=[2.0, 6.0]))),
}
LORA = {
    "lora": dict(r=4, lora_alpha=10),
    "lora-all-linear": dict(r=3, lora_alpha=5, target_modules="all-linear", use_rslora=True),
    "lora-patterns": dict(r=4, lora_alpha=6, bias="lora_only"),
}
PATTERNS = {
    "bert": dict(target_modules=["query", "value"], rank_pattern={"0.attention.self.query": 2}, alpha_pattern={"value": 3}),
    "llama": dict(target_modules=["q_proj", "v_proj"], rank_pattern={"0.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 3}),
}


def noise(shape, scale, generator):
    return torch.randn(shape, generator=generator) * scale


def write_model(name, task, config, generator):
    model = AUTO[task].from_config(config).float()
    with torch.no_grad():
        for path, tensor in model.named_parameters():
            if "norm" in path.lower() and path.endswith("weight"):
                tensor.add_(noise(tensor.shape, 0.2, generator))
            elif tensor.dim() < 2:
                tensor.copy_(noise(tensor.shape, 0.15, generator))
            else:
                tensor.copy_(noise(tensor.shape, 0.4 if "embed" in path else 1 / math.sqrt(tensor.shape[1]), generator))
    folder = HERE / "models" / name
    model.save_pretrained(folder)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()


def make_inputs(task, config, generator):
    lengths = [9, 6, 3] if task == "sequence_classification" else [10, 7, 4]
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ids = torch.where(mask, torch.randint(5, config.vocab_size, mask.shape, generator=generator), 0)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    if task == "sequence_classification":
        inputs["token_type_ids"] = (mask & (torch.arange(max(lengths))[None] > 2)).long()
        inputs["labels"] = torch.arange(len(lengths)) % config.num_labels
    else:
        inputs["labels"] = torch.where(mask, ids, -100)
        inputs["labels"][0, :3] = -100
        inputs["prompt.ids"] = torch.randint(5, config.vocab_size, (1, 6), generator=generator)
    return inputs


def write_adapter(folder, case, options, generator):
    config = peft.LoraConfig(task_type=PEFT_TASK[case["task"]], **options)
    base = AUTO[case["task"]].from_pretrained(HERE / case["model"])
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for path, tensor in model.named_parameters():
            if tensor.requires_grad:
                tensor.add_(noise(tensor.shape, 0.3 if "lora_" in path else 0.1, generator))
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    stored = json.loads(path.read_text())
    stored["base_model_name_or_path"] = case["model"]
    # PEFT writes sets in any order.
    for key in ("target_modules", "modules_to_save"):
        if isinstance(stored.get(key), list):
            stored[key] = sorted(stored[key])
    path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")


def open_model(case, folder):
    model = AUTO[case["task"]].from_pretrained(HERE / case["model"], attn_implementation="eager")
    if case["method"] == "LORA":
        model = peft.PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    return model.double()


def file_keys(model):
    """Parameter's name → key in the file, for what is trained."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not isinstance(model, peft.PeftModel):
        return {name: name for name in trained}
    saved = {tensor.data_ptr(): key for key, tensor in peft.get_peft_model_state_dict(model).items()}
    return {name: saved[p.data_ptr()] for name, p in trained.items()}


def greedy(model, prompt):
    """→ eight ids, and the smallest lead of a chosen token."""
    model.generation_config.eos_token_id = None
    out = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=8, output_logits=True,
                         return_dict_in_generate=True)
    tops = torch.cat(out.logits).topk(2).values
    return out.sequences[:, prompt.shape[1]:], float((tops[:, 0] - tops[:, 1]).min())


def infer(model, case, inputs, batch, out):
    """Fills `out` with what evaluation gives; → whether a rounding error could turn a greedy choice."""
    model.eval()
    with torch.no_grad():
        result = model(**batch, output_hidden_states=case["variant"] == "full")
        pads = ~inputs["attention_mask"].bool()
        out["logits"] = result.logits.clone()
        if case["task"] == "causal_lm":
            out["logits"][pads] = math.nan
        for i, hidden in enumerate(result.hidden_states or ()):
            out[f"hidden_states.{i}"] = hidden.masked_fill(pads[..., None], math.nan)
        if case["method"] == "LORA":
            merged = open_model(case, HERE / "cases" / case["name"]).merge_and_unload().eval()
            out["merged.logits"] = merged(**batch).logits
            if case["task"] == "causal_lm":
                out["merged.logits"][pads] = math.nan
        if "prompt.ids" not in inputs:
            return False
        out["generate.ids"], lead = greedy(model, inputs["prompt.ids"])
        return lead < 5e-3


def train(model, case, batch, out):
    """Fills `out` with loss, gradients, ten steps; → whether an element's gradient is too near nothing for Adam to follow."""
    model.train()
    keys = file_keys(model)
    trained = {keys[name]: p for name, p in model.named_parameters() if name in keys}
    case["trainable_parameters"] = sum(p.numel() for p in trained.values())
    optimizer = torch.optim.AdamW(trained.values(), lr=case["training"]["lr"], **HYPER)
    losses, largest = [], {key: torch.zeros_like(p) for key, p in trained.items()}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.item())
        for key, p in trained.items():
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            largest[key] = torch.maximum(largest[key], grad.abs())
            if step == 0:
                out[f"grad.{key}"] = grad.clone()
        optimizer.step()
    out["loss"], out["losses"] = torch.tensor(losses[0], dtype=torch.float64), torch.tensor(losses, dtype=torch.float64)
    case["zero_gradient"] = [key for key, value in largest.items() if float(value.max()) == 0]
    if case["variant"] == "full":
        return False
    weak = False
    for key, p in trained.items():
        out[f"after.{key}"] = p.detach().clone()
        grad = out[f"grad.{key}"].abs()
        weak |= bool(((grad > 0) & (grad < 1e-5 * grad.max())).any())
    return weak


def write_case(model_name, variant, seed):
    """→ whether a float32 program can follow it."""
    task, config = (MODELS | ROTARY)[model_name]
    folder = HERE / "cases" / f"{model_name}.{variant}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    full = variant == "full"
    case = {"name": folder.name, "model": f"models/{model_name}", "family": config.model_type, "task": task, "variant": variant,
            "method": "FULL" if full else "LORA", "padding_side": "right", "position_ids": "not given: the model's default",
            "training": {"optimizer": "AdamW", "lr": 1e-3 if full else 1e-2, **HYPER, "steps": STEPS},
            "versions": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "peft": peft.__version__}}
    if full:
        case["trainable"] = ["."]
    inputs = make_inputs(task, config, generator)
    save_file(inputs, folder / "inputs.safetensors")
    if not full:
        torch.manual_seed(seed)
        patterns = PATTERNS[config.model_type] if variant == "lora-patterns" else {}
        write_adapter(folder / "adapter", case, {**LORA[variant], **patterns}, generator)
    out = {}
    batch = {key: value for key, value in inputs.items() if key != "prompt.ids"}
    unsure = infer(open_model(case, folder), case, inputs, batch, out)
    unsure |= train(open_model(case, folder), case, batch, out)
    save_file({key: (value.float() if value.is_floating_point() else value).contiguous() for key, value in out.items()},
              folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    return not unsure


def main():
    for number, (name, (task, config)) in enumerate((MODELS | ROTARY).items()):
        write_model(name, task, config, torch.Generator().manual_seed(number))
        for variant in ["full", *LORA] if name in MODELS else ["full"]:
            seed = next(seed for seed in range(100, 200) if write_case(name, variant, seed))
            print(f"{name}.{variant}: seed {seed}")


if __name__ == "__main__":
    main()
