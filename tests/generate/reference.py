#!/usr/bin/env python3
"""tests/generate/reference.py REQUEST.json ANSWER.json: what transformers makes of the same ids or logits.

{"processors": [{…} …], "logits": [[…]], "seen": [[…]]} → {"scores": [[[…]]]}, one a set of options; -inf written as null.
{"model": …, "prompts": [[ids]], "max_new_tokens": n, "new_adapter": DIR} saves a random LoRA adapter there → {"base": [[…]],
"attached": [[…]], "merged": [[…]]}: the ids of greedy generation with KV cache, one prompt at a time, float32.
"""
import json
import math
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import torch
import transformers

torch.set_num_threads(1)  # one token a pass: threads would only wait for one another
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def scores(options, logits, seen):
    chosen = [transformers.RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]),
              transformers.TemperatureLogitsWarper(options["temperature"])]
    if options["top_k"]:
        chosen.append(transformers.TopKLogitsWarper(options["top_k"]))
    if options["top_p"] < 1:
        chosen.append(transformers.TopPLogitsWarper(options["top_p"]))
    if options["min_p"]:
        chosen.append(transformers.MinPLogitsWarper(options["min_p"]))
    result = transformers.LogitsProcessorList(chosen)(torch.tensor(seen), torch.tensor(logits))
    return [[value if math.isfinite(value) else None for value in row] for row in result.tolist()]


def new_adapter(model):
    import peft
    torch.manual_seed(11)
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", target_modules="all-linear"))
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, std=0.02)
    return model.eval()


def greedy(model, request):
    ids = []
    for prompt in request["prompts"]:
        prompt = torch.tensor([prompt])
        out = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
                             max_new_tokens=request["max_new_tokens"], pad_token_id=0)
        ids.append(out[0, prompt.shape[1]:].tolist())
    return ids


def generate(request):
    model = transformers.AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    answer = {"base": greedy(model, request)}
    model = new_adapter(model)
    model.save_pretrained(request["new_adapter"])
    answer["attached"] = greedy(model, request)
    answer["merged"] = greedy(model.merge_and_unload(), request)
    return answer


def main():
    with open(sys.argv[1]) as file:
        request = json.load(file)
    if "processors" in request:
        answer = {"scores": [scores(options, request["logits"], request["seen"]) for options in request["processors"]]}
    else:
        answer = generate(request)
    with open(sys.argv[2], "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
