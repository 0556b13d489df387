"""What the interop scripts share: graft beside another library, case by case, each in a folder of its own."""
import argparse, json, os, re, subprocess, sys, tempfile

import torch
from safetensors.torch import load_file

TOLERANCE = 2e-5  # float32 on both sides: ten times the difference that another order of sums makes


def move(parameters):
    """Away from what a fresh adapter holds, where many a mistake does not show."""
    with torch.no_grad():
        for p in parameters:
            p.add_(torch.randn(p.shape) * 0.1)


def move_trained(model):
    torch.manual_seed(3)
    move(p for p in model.parameters() if p.requires_grad)


def some_rows(words):
    """→ (ids, mask) of three rows of 9, 4 and 7 tokens; ids behind a row's end are as drawn"""
    torch.manual_seed(7)
    lengths = torch.tensor([9, 4, 7])
    return torch.randint(5, words, (3, 9)), (torch.arange(9)[None] < lengths[:, None]).long()


def logits_of(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def graft_logits(graft, model, adapter, work, *flags):
    out = os.path.join(work, "out.safetensors")
    subprocess.run([graft, "forward", "--model", model, "--adapter", adapter, "--inputs", os.path.join(work, "inputs.safetensors"),
                    "--out", out, "--quiet", *flags], check=True, stdout=subprocess.DEVNULL)
    return load_file(out)["logits"]


def made_by_graft(make_adapter, model_folder, method, work):
    """→ the folder of an adapter that graft saved"""
    folder = os.path.join(work, "from_graft")
    with open(os.path.join(work, "method.json"), "w") as f:
        json.dump(method, f)
    subprocess.run([make_adapter, model_folder, os.path.join(work, "method.json"), folder], check=True)
    return folder


def run(documentation, cases, versions):
    """`cases`: (label, check), where check(arguments, folder) → complaints. Ends the program."""
    ap = argparse.ArgumentParser(description=documentation)
    ap.add_argument("graft")
    ap.add_argument("make_adapter")
    ap.add_argument("--only", default="")
    ap.add_argument("--keep", help="folder for the files, instead of a temporary one")
    args = ap.parse_args()
    failed = passed = 0
    with tempfile.TemporaryDirectory() as temporary:
        for label, check in cases:
            if not re.search(args.only, label):
                continue
            work = os.path.join(args.keep or temporary, label)
            os.makedirs(work, exist_ok=True)
            try:
                complaints = check(args, work)
            except subprocess.CalledProcessError as error:
                complaints = [f"{os.path.basename(error.cmd[0])} failed with exit code {error.returncode}"]
            print(f"{label:40} {'FAIL' if complaints else 'ok'}", flush=True)
            for complaint in complaints:
                print(f"    {complaint}")
            failed, passed = failed + bool(complaints), passed + (not complaints)
    print(f"{passed} passed, {failed} failed ({versions})")
    sys.exit(1 if failed or not passed else 0)
