#!/usr/bin/env python3
"""PEFT on given sequences from a given adapter: prints the loss of every step as one JSON line.

usage: peft_language_model.py --model DIR --adapter DIR --batches FILE.json --learning-rate X [--threads N]
FILE.json is a list of batches, each a list of sequences of token ids; nothing is shuffled. AdamW without weight decay, constant
learning rate, gradients clipped to 1, no dropout, float32; a batch is padded to its longest and the loss is the mean over its tokens.
"""
import argparse
import json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--batches", required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(args.threads)
    base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, args.adapter, is_trainable=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.learning_rate, weight_decay=0.0)
    with open(args.batches) as file:
        batches = json.load(file)
    losses = []
    model.train()
    for batch in batches:
        longest = max(len(row) for row in batch)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    print(json.dumps({"losses": losses}))


if __name__ == "__main__":
    main()
