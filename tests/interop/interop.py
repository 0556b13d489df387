"""Adapters to and from PEFT itself.

    interop.py GRAFT MAKE_ADAPTER [--only REGEX] [--keep DIR]

For each (model, configuration): what PEFT saves gives equal logits in `graft forward`, plain and merged; what graft saves opens in
PEFT with equal logits, no key missing and none left over.
"""
import os, warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
import peft
import torch
import transformers
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from configurations import CONFIGURATIONS, MODELS, recipe_keys
from harness import TOLERANCE, graft_logits, logits_of, made_by_graft, move, move_trained, run, some_rows

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
TASKS = {
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "CAUSAL_LM": transformers.AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": transformers.AutoModelForSeq2SeqLM,
}


def write_model(name, folder):
    config, task = MODELS[name]
    torch.manual_seed(len(name))
    model = TASKS[task].from_config(config)
    move(model.parameters())
    model.save_pretrained(folder)


def write_inputs(name, variant, path):
    config, task = MODELS[name]
    ids, mask = some_rows(config.vocab_size)
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if task == "SEQ_2_SEQ_LM":
        inputs["labels"] = torch.randint(5, config.vocab_size, (3, 6))
    if variant == "multitask":
        inputs["task_ids"] = torch.tensor([1, 0, 1])
    save_file(inputs, path)
    return inputs


def base_model(name, folder):
    return TASKS[MODELS[name][1]].from_pretrained(folder, attn_implementation="eager").eval()


def difference(ours, theirs, inputs):
    """Largest relative difference at positions that count; virtual tokens in front are left out."""
    if theirs.dim() == 3:
        theirs = theirs[:, -ours.shape[1]:]
        if ours.shape[1] == inputs["attention_mask"].shape[1] and "labels" not in inputs:
            used = inputs["attention_mask"].bool()
            ours, theirs = ours[used], theirs[used]
    return float((ours - theirs).abs().max() / theirs.abs().max())


def from_peft(graft, name, config, work, inputs, mergeable):
    """→ complaints about an adapter that PEFT saved"""
    model_folder, folder = os.path.join(work, name), os.path.join(work, "from_peft")
    model = get_peft_model(base_model(name, model_folder), config).eval()
    move_trained(model)
    model.save_pretrained(folder)
    theirs, complaints = logits_of(model, inputs), []
    for flags in [()] + ([("--merged",)] if mergeable else []):
        error = difference(graft_logits(graft, model_folder, folder, work, *flags), theirs, inputs)
        if not error < TOLERANCE:
            complaints.append(f"what PEFT saved{' (merged)' if flags else ''}: logits differ by {error:.1e}")
    return complaints


def from_graft(graft, make_adapter, name, config, work, inputs):
    """→ complaints about an adapter that graft saved"""
    model_folder = os.path.join(work, name)
    folder = made_by_graft(make_adapter, model_folder, recipe_keys(config), work)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base_model(name, model_folder), folder).eval()
    complaints = [f"PEFT warns: {str(w.message)[:300]}" for w in caught
                  if "Found missing adapter keys" in str(w.message) or "Unexpected keyword" in str(w.message)]
    ours, theirs = set(load_file(os.path.join(folder, "adapter_model.safetensors"))), set(get_peft_model_state_dict(model))
    if ours != theirs:
        complaints.append(f"keys that PEFT does not have: {sorted(ours - theirs)[:4]}, keys that graft does not have: {sorted(theirs - ours)[:4]}")
    error = difference(graft_logits(graft, model_folder, folder, work), logits_of(model, inputs), inputs)
    if not error < TOLERANCE:
        complaints.append(f"what graft saved: logits differ by {error:.1e}")
    again = os.path.join(work, "again")
    model.save_pretrained(again)
    return complaints


def check(name, variant, args, work):
    config, mergeable = CONFIGURATIONS(name)[variant]
    write_model(name, os.path.join(work, name))
    inputs = write_inputs(name, variant, os.path.join(work, "inputs.safetensors"))
    return (from_peft(args.graft, name, config(), work, inputs, mergeable)
            + from_graft(args.graft, args.make_adapter, name, config(), work, inputs))


def cases():
    for name in MODELS:
        for variant in CONFIGURATIONS(name):
            yield f"{name}.{variant}", lambda args, work, name=name, variant=variant: check(name, variant, args, work)


if __name__ == "__main__":
    run(__doc__, cases(), f"PEFT {peft.__version__}, transformers {transformers.__version__}")
