#!/usr/bin/env python3
"""tests/generate/reference.py REQUEST.json ANSWER.json: what transformers makes of the same ids or logits.

{"processors": {…}, "logits": [[…]], "seen": [[…]]} → {"scores": [[…]]}, -inf written as null.
{"model": …, "new_adapter": DIR} saves a random LoRA adapter there; with "prompts" [[ids]], "adapter", "merged", "max_new_tokens" →
{"ids": [[…]]}: greedy, with KV cache, one prompt at a time, float32.
"""
import json
import math
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def scores(request):
    options = request["processors"]
    logits, seen = torch.tensor(request["logits"]), torch.tensor(request["seen"])
    chosen = [transformers.RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]),
              transformers.TemperatureLogitsWarper(options["temperature"])]
    if options["top_k"]:
        chosen.append(transformers.TopKLogitsWarper(options["top_k"]))
    if options["top_p"] < 1:
        chosen.append(transformers.TopPLogitsWarper(options["top_p"]))
    if options["min_p"]:
        chosen.append(transformers.MinPLogitsWarper(options["min_p"]))
    result = transformers.LogitsProcessorList(chosen)(seen, logits)
    return {"scores": [[value if math.isfinite(value) else None for value in row] for row in result.tolist()]}


def save_new_adapter(request):
    import peft
    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", target_modules="all-linear"))
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, std=0.02)
    model.save_pretrained(request["new_adapter"])


def generate(request):
    model = transformers.AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32)
    if request.get("adapter"):
        import peft
        model = peft.PeftModel.from_pretrained(model, request["adapter"])
        if request["merged"]:
            model = model.merge_and_unload()
    ids = []
    for prompt in request["prompts"]:
        prompt = torch.tensor([prompt])
        out = model.eval().generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
                                    max_new_tokens=request["max_new_tokens"], pad_token_id=0)
        ids.append(out[0, prompt.shape[1]:].tolist())
    return {"ids": ids}


def main():
    request = json.load(open(sys.argv[1]))
    if "processors" in request:
        answer = scores(request)
    else:
        answer = {}
        if "new_adapter" in request:
            save_new_adapter(request)
        if "prompts" in request:
            answer = generate(request)
    json.dump(answer, open(sys.argv[2], "w"))


if __name__ == "__main__":
    main()
