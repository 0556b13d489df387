#!/usr/bin/env python3
"""PEFT on MRPC at given settings: trains, judges after each epoch, prints one JSON line with the best epoch's metrics.

usage: peft_mrpc.py --model DIR --data DIR [--seed N] [--threads N] [--row JSON] [--limit N] [--dtype bfloat16]
Without --row the settings are those of recipes/glue/mrpc.yaml: LoRA r 8, alpha 16, dropout 0.1 on query and value, batch 32, AdamW at
4e-4 without weight decay, linear schedule with 6 % warm-up, gradients clipped to 1, float32 (bfloat16: torch's autocast), the longest of a batch padded to. JSON is a row of benchmarks/methods.json.
"""
import argparse
import csv
import json
import math
import os
import random
import time


ROW = {"method": {"name": "lora", "r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["query", "value"]},
       "peft": "LORA", "learning_rate": 4e-4, "epochs": 3, "batch_size": 32}


def rows_of(path):
    with open(path, encoding="utf-8-sig") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [(row[3], row[4], int(row[0])) for row in rows]


def batches_of(rows, size):
    return [rows[i:i + size] for i in range(0, len(rows), size)]


def scores(labels, predictions):
    right = sum(a == b for a, b in zip(labels, predictions))
    both = sum(a == 1 and b == 1 for a, b in zip(labels, predictions))
    either = sum(labels) + sum(predictions)
    return {"accuracy": right / len(labels), "f1": 2 * both / either if either else 0.0}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--row", type=json.loads, default=ROW)
    parser.add_argument("--limit", type=int, default=0, help="only so many examples of each file")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    started = time.time()
    import torch
    from peft import get_peft_config, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    order = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    base = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2, dtype=torch.float32)
    row = args.row
    keys = {key: value for key, value in row["method"].items() if key != "name"}
    model = get_peft_model(base, get_peft_config({"peft_type": row["peft"], "task_type": "SEQ_CLS", **keys}))
    size, epochs = row["batch_size"], row["epochs"]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=row["learning_rate"], weight_decay=row.get("weight_decay", 0.0))

    def precision():
        return torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16")

    def inputs_of(batch):
        encoded = tokenizer([a for a, _, _ in batch], [b for _, b, _ in batch], truncation=True, max_length=128,
                            padding=True, return_tensors="pt")
        return encoded, torch.tensor([label for _, _, label in batch])

    train, dev = rows_of(os.path.join(args.data, "train.tsv")), rows_of(os.path.join(args.data, "dev.tsv"))
    if args.limit:
        train, dev = train[:args.limit], dev[:args.limit]
    steps = epochs * len(batches_of(train, size))
    constant = row.get("schedule") == "constant"
    warmup = 0 if constant else math.ceil(0.06 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: 1.0 if constant else s / warmup if s < warmup else max(0.0, (steps - s) / max(1, steps - warmup)))
    best = None
    for _ in range(epochs):
        order.shuffle(train)
        model.train()
        for batch in batches_of(train, size):
            inputs, labels = inputs_of(batch)
            with precision():
                loss = model(**inputs, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        model.eval()
        predictions = []
        with torch.no_grad(), precision():
            for batch in batches_of(dev, 32):
                predictions += model(**inputs_of(batch)[0]).logits.argmax(1).tolist()
        found = scores([label for _, _, label in dev], predictions)
        if best is None or found["accuracy"] > best["accuracy"]:
            best = found
    parameters = sum(p.numel() for p in trained)
    print(json.dumps({"seed": args.seed, **best, "parameters": parameters, "seconds": round(time.time() - started, 1)}))


if __name__ == "__main__":
    main()
