"""Experts that `transformers` chooses: a model folder, then token ids on stdin.

Run by an engine's Python.

In float32, layer by layer; out come the experts of every token, the first choice first.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(
    sys.argv[1], dtype=torch.float32
).eval()
answers = []
for ids in json.load(sys.stdin):
    with torch.no_grad():
        # The tokens that are not given are made as the engine makes them: the
        # most likely one each time.
        whole = model.generate(
            torch.tensor([ids["prompt"]]),
            max_new_tokens=ids["new"],
            do_sample=False,
            eos_token_id=None,
        )
        layers = model(whole[:, :-1], output_router_logits=True).router_logits
    chosen = [
        layer.float().topk(model.config.num_experts_per_tok, dim=-1).indices
        for layer in layers
    ]
    answers.append(torch.stack(chosen, dim=1).tolist())
sys.stdout.write(json.dumps(answers))
