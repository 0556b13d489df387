"""Adapters to and from PEFT itself.

    interop.py GRAFT MAKE_ADAPTER [--only REGEX] [--keep DIR]

For each (model, configuration): what PEFT saves gives equal logits in `graft forward`, plain and merged; what graft saves opens in
PEFT with equal logits, no key missing and none left over.
"""
import argparse, json, os, re, subprocess, sys, tempfile, warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
import peft
import torch
import transformers
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from configurations import CONFIGURATIONS, MODELS, recipe_keys

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
TOLERANCE = 2e-5  # float32 on both sides: ten times the difference that another order of sums makes
TASKS = {
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "CAUSAL_LM": transformers.AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": transformers.AutoModelForSeq2SeqLM,
}


def write_model(name, folder):
    config, task = MODELS[name]
    torch.manual_seed(len(name))
    model = TASKS[task].from_config(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
    model.save_pretrained(folder)


def write_inputs(name, variant, path):
    config, task = MODELS[name]
    torch.manual_seed(7)
    lengths = torch.tensor([9, 4, 7])
    mask = (torch.arange(9)[None] < lengths[:, None]).long()
    inputs = {"input_ids": torch.randint(5, config.vocab_size, (3, 9)) * mask, "attention_mask": mask}
    if task == "SEQ_2_SEQ_LM":
        inputs["labels"] = torch.randint(5, config.vocab_size, (3, 6))
    if variant == "multitask":
        inputs["task_ids"] = torch.tensor([1, 0, 1])
    save_file(inputs, path)
    return inputs


def base_model(name, folder):
    return TASKS[MODELS[name][1]].from_pretrained(folder, attn_implementation="eager").eval()


def move(model):
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape) * 0.1)


def logits_of(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def difference(ours, theirs, inputs):
    """Largest relative difference at positions that count; virtual tokens in front are left out."""
    if theirs.dim() == 3:
        theirs = theirs[:, -ours.shape[1]:]
        if ours.shape[1] == inputs["attention_mask"].shape[1] and "labels" not in inputs:
            used = inputs["attention_mask"].bool()
            ours, theirs = ours[used], theirs[used]
    return float((ours - theirs).abs().max() / theirs.abs().max())


def graft_logits(graft, model, adapter, work, *flags):
    out = os.path.join(work, "out.safetensors")
    subprocess.run([graft, "forward", "--model", model, "--adapter", adapter, "--inputs", os.path.join(work, "inputs.safetensors"),
                    "--out", out, "--quiet", *flags], check=True, stdout=subprocess.DEVNULL)
    return load_file(out)["logits"]


def from_peft(graft, name, config, work, inputs, mergeable):
    """→ complaints about an adapter that PEFT saved"""
    model_folder, folder = os.path.join(work, name), os.path.join(work, "from_peft")
    model = get_peft_model(base_model(name, model_folder), config).eval()
    move(model)
    model.save_pretrained(folder)
    theirs, complaints = logits_of(model, inputs), []
    for flags in [()] + ([("--merged",)] if mergeable else []):
        error = difference(graft_logits(graft, model_folder, folder, work, *flags), theirs, inputs)
        if not error < TOLERANCE:
            complaints.append(f"what PEFT saved{' (merged)' if flags else ''}: logits differ by {error:.1e}")
    return complaints


def from_graft(graft, make_adapter, name, config, work, inputs):
    """→ complaints about an adapter that graft saved"""
    model_folder, folder = os.path.join(work, name), os.path.join(work, "from_graft")
    with open(os.path.join(work, "method.json"), "w") as f:
        json.dump(recipe_keys(config), f)
    subprocess.run([make_adapter, model_folder, os.path.join(work, "method.json"), folder], check=True)
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


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("graft")
    ap.add_argument("make_adapter")
    ap.add_argument("--only", default="")
    ap.add_argument("--keep", help="folder for the files, instead of a temporary one")
    args = ap.parse_args()
    failed = passed = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or temporary
        for name in MODELS:
            written = False
            for variant, (config, mergeable) in CONFIGURATIONS(name).items():
                label = f"{name}.{variant}"
                if not re.search(args.only, label):
                    continue
                if not written:
                    write_model(name, os.path.join(work, name))
                    written = True
                inputs = write_inputs(name, variant, os.path.join(work, "inputs.safetensors"))
                try:
                    complaints = from_peft(args.graft, name, config(), work, inputs, mergeable)
                    complaints += from_graft(args.graft, args.make_adapter, name, config(), work, inputs)
                except subprocess.CalledProcessError as error:
                    complaints = [f"{os.path.basename(error.cmd[0])} failed with exit code {error.returncode}"]
                print(f"{label:40} {'FAIL' if complaints else 'ok'}", flush=True)
                for complaint in complaints:
                    print(f"    {complaint}")
                failed, passed = failed + bool(complaints), passed + (not complaints)
    print(f"{passed} passed, {failed} failed (PEFT {peft.__version__}, transformers {transformers.__version__})")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
