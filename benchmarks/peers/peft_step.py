#!/usr/bin/env python3
"""Steps of PEFT on the work that graft's training speed is compared on; prints one JSON line.

usage: peft_step.py MODE WORK [--model DIR] [--data DIR] [--steps N] [--block N] [--batch N] [--checkpoint] [--compile]
MODE  default  float32, batches padded to their longest row, torch's AdamW (what PEFT's own examples do)
      tuned    bfloat16 weights, batches of like lengths, fused AdamW, sdpa
WORK  minilm, bert-base            LoRA r 8 on query and value, classification of MRPC's pairs, batch 32
      smollm2-135m, qwen2.5-0.5b, tinyllama-1.1b   LoRA r 8 on every linear, causal LM on blocks of random tokens
Only minilm uses trained weights; the others are random weights of that shape. Useful tokens are those of the data, never padding.
"""
import time

STARTED = time.time()
import argparse
import csv
import json
import os
import random
import resource
import statistics

SHAPES = {
    "smollm2-135m": ("llama", dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                                  num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True)),
    "qwen2.5-0.5b": ("qwen2", dict(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                                num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True)),
    "tinyllama-1.1b": ("llama", dict(vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
                                     num_attention_heads=32, num_key_value_heads=4)),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["default", "tuned"])
    parser.add_argument("work", choices=["minilm", "bert-base", *SHAPES])
    parser.add_argument("--model", help="folder of all-MiniLM-L6-v2 (its tokenizer serves bert-base too)")
    parser.add_argument("--data", help="MRPC's train.tsv")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--full", action="store_true", help="the whole model is trained, in place of LoRA")
    return parser.parse_args()


def adapted(model, args, torch, **config):
    if not args.full:
        from peft import LoraConfig, get_peft_model
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, **config))
    trained = [p for p in model.parameters() if p.requires_grad]
    if args.mode == "tuned":
        for p in trained:
            p.data = p.data.to(torch.bfloat16)
    return model, torch.optim.AdamW(trained, lr=4e-4, fused=args.mode == "tuned")


def classification(args, torch):
    """-> model, optimizer, endless batches of (inputs, useful tokens)"""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    dtype = torch.bfloat16 if args.mode == "tuned" else torch.float32
    if args.work == "minilm":
        base = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2, dtype=dtype)
    else:
        base = BertForSequenceClassification(BertConfig(num_labels=2)).to(dtype)
    model, optimizer = adapted(base, args, torch, task_type="SEQ_CLS", target_modules=["query", "value"])
    size = args.batch or 32
    with open(args.data, encoding="utf-8-sig") as f:
        rows = [row for row in csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    random.shuffle(rows)
    encoded = [(tokenizer(row[3], row[4], truncation=True, max_length=128), int(row[0])) for row in rows[: size * 60]]
    if args.mode == "tuned":
        encoded.sort(key=lambda item: len(item[0]["input_ids"]))
    groups = [encoded[i:i + size] for i in range(0, len(encoded), size)]
    random.shuffle(groups)

    def batches():
        while True:
            for group in groups:
                inputs = tokenizer.pad([item for item, _ in group], return_tensors="pt")
                inputs["labels"] = torch.tensor([label for _, label in group])
                yield inputs, int(inputs["attention_mask"].sum())
    return model, optimizer, batches()


def language_model(args, torch):
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
    family, shape = SHAPES[args.work]
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[family](**shape)
    torch.set_default_dtype(torch.bfloat16 if args.mode == "tuned" else torch.float32)
    base = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    if args.checkpoint:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    model, optimizer = adapted(base, args, torch, task_type="CAUSAL_LM", target_modules="all-linear")
    size = args.batch or 1

    def batches():
        while True:
            ids = torch.randint(5, config.vocab_size, (size, args.block))
            yield {"input_ids": ids, "labels": ids}, size * args.block
    return model, optimizer, batches()


def main():
    args = arguments()
    import torch
    torch.manual_seed(0)
    random.seed(0)
    torch.set_num_threads(args.threads)
    make = classification if args.work in ("minilm", "bert-base") else language_model
    model, optimizer, batches = make(args, torch)
    step_model = torch.compile(model, dynamic=True) if args.compile else model
    model.train()
    rates, first = [], None
    for step in range(args.steps + 3):
        inputs, useful = next(batches)
        began = time.time()
        loss = step_model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rates.append(useful / (time.time() - began))
        first = first or time.time() - STARTED
    print(json.dumps({
        "program": "peft " + args.mode + (" + compile" if args.compile else ""), "work": args.work,
        "useful_tokens_per_second": statistics.median(rates[3:]), "seconds_to_first_step": first,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "loss": loss.item()}))


if __name__ == "__main__":
    main()
