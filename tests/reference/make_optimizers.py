#!/usr/bin/env python3
"""Writes optimizers.json: what torch's and transformers' optimizers make of the same gradients.

    python make_optimizers.py [FOLDER]      (requirements.txt; Lion, which neither has, is its paper's algorithm 2)
"""
import json
import pathlib
import sys

import torch
from transformers.optimization import Adafactor

STEPS = 6
SHAPES = {"matrix.weight": (3, 5), "vector": (7,), "stack": (2, 3, 2)}


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                b1, b2 = group["betas"]
                update = (b1 * m + (1 - b1) * p.grad).sign() + group["weight_decay"] * p
                p -= group["lr"] * update
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


OPTIMIZERS = {
    "adamw": ({"optimizer": "adamw", "weight_decay": 0.1, "betas": [0.9, 0.98], "eps": 1e-7},
              lambda p: torch.optim.AdamW(p, lr=0.03, betas=(0.9, 0.98), eps=1e-7, weight_decay=0.1)),
    "sgd": ({"optimizer": "sgd", "weight_decay": 0.1}, lambda p: torch.optim.SGD(p, lr=0.03, weight_decay=0.1)),
    "sgd-momentum": ({"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
                     lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, weight_decay=0.1)),
    "lion": ({"optimizer": "lion", "betas": [0.9, 0.99], "weight_decay": 0.1},
             lambda p: Lion(p, lr=0.03, betas=(0.9, 0.99), weight_decay=0.1)),
    "adafactor": ({"optimizer": "adafactor", "weight_decay": 0.1},
                  lambda p: Adafactor(p, lr=0.03, scale_parameter=False, relative_step=False, warmup_init=False,
                                      weight_decay=0.1)),
    "adafactor-scaled": ({"optimizer": "adafactor", "scale_parameter": True, "weight_decay": 0.1},
                         lambda p: Adafactor(p, lr=0.03, scale_parameter=True, relative_step=False, warmup_init=False,
                                             weight_decay=0.1)),
}


def values(tensor):
    return [float(x) for x in tensor.detach().flatten()]


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    torch.manual_seed(7)
    start = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    gradients = [{name: torch.randn(shape) * 3 ** (step % 3 - 1) for name, shape in SHAPES.items()}
                 for step in range(STEPS)]
    cases = {}
    for name, (config, make) in OPTIMIZERS.items():
        parameters = {key: torch.nn.Parameter(tensor.clone()) for key, tensor in start.items()}
        optimizer = make(list(parameters.values()))
        for gradient in gradients:
            for key, parameter in parameters.items():
                parameter.grad = gradient[key].clone()
            optimizer.step()
        cases[name] = {"config": config, "end": {key: values(p) for key, p in parameters.items()}}
    document = {"learning_rate": 0.03, "shapes": SHAPES, "start": {k: values(t) for k, t in start.items()},
                "gradients": [{k: values(t) for k, t in g.items()} for g in gradients], "cases": cases}
    (folder / "optimizers.json").write_text(json.dumps(document) + "\n")


main()
