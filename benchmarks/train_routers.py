"""Trained routers that differ by their loss: a small Mixtral-shaped model on the CPU.

Run by an engine's Python (it has torch and transformers), once for each model:

    .engines/vllm-cpu/bin/python benchmarks/train_routers.py OUT --balance 0.02 [--steps 600]

The text is that of the Python installation that runs it: the sources of its standard
library and the documentation of `pydoc`, read as bytes. `--balance` is the weight of
transformers' own load-balancing loss, 0 leaves it out. That loss takes all layers for
one: a layer may be uneven if another makes up for it. `--each-layer` applies it to each
layer by itself. OUT gets a model folder that vLLM serves, and prompts.jsonl in it:
text that was not trained on.
"""

import argparse
import json
import math
import random
import sysconfig
from pathlib import Path

import torch
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import (
    load_balancing_loss_func,
)

SEQUENCE, BATCH, FIRST_BYTE = (
    128,
    16,
    3,
)  # ids 0 to 2 are special, byte b is 3 + b
PROMPT_TOKENS, OUTPUT_TOKENS, PROMPTS = 128, 8, 96


def text() -> tuple[bytes, bytes]:
    """Files to train on and files held back, every eighth, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(
        [
            *library.glob("*.py"),
            *library.glob("pydoc_data/*.py"),
            *library.glob("json/*.py"),
        ]
    )
    held = [
        path.read_bytes()
        for number, path in enumerate(files)
        if number % 8 == 3
    ]
    used = [
        path.read_bytes()
        for number, path in enumerate(files)
        if number % 8 != 3
    ]
    return b"\n".join(used), b"\n".join(held)


def batches(source: bytes, seed: int):
    """Random windows, for ever; ids of shape (BATCH, SEQUENCE)."""
    ids = (
        torch.frombuffer(bytearray(source), dtype=torch.uint8).long()
        + FIRST_BYTE
    )
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(
            len(ids) - SEQUENCE, (BATCH,), generator=generator
        )
        yield torch.stack([ids[start : start + SEQUENCE] for start in starts])


def model(balance: float, layers: int) -> MixtralForCausalLM:
    """A small Mixtral: 8 experts, 2 chosen, as the study's."""
    config = MixtralConfig(
        vocab_size=320,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        num_local_experts=8,
        num_experts_per_tok=2,
        router_aux_loss_coef=balance,
        output_router_logits=balance > 0,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        sliding_window=None,
    )
    return MixtralForCausalLM(config)


def loss_of(
    trained: MixtralForCausalLM, ids: torch.Tensor, asked: argparse.Namespace
) -> torch.Tensor:
    """The next byte's loss, and the balance's by layer; else transformers adds it."""
    if not asked.each_layer:
        return trained(input_ids=ids, labels=ids).loss
    told = trained(input_ids=ids, labels=ids, output_router_logits=True)
    uneven = [
        load_balancing_loss_func((layer,), 8, 2) for layer in told.router_logits
    ]
    # The model's own term has weight 0 here.
    return told.loss + asked.balance * torch.stack(uneven).mean()


def loads(trained: MixtralForCausalLM, ids: torch.Tensor) -> list[list[float]]:
    """Each layer's shares of its experts."""
    with torch.no_grad():
        logits = trained(ids, output_router_logits=True).router_logits
    chosen = [layer.topk(2, dim=-1).indices.flatten() for layer in logits]
    return [
        [
            round(n, 3)
            for n in (torch.bincount(c, minlength=8) / len(c)).tolist()
        ]
        for c in chosen
    ]


def write_prompts(source: bytes, path: Path) -> None:
    """Windows of the held-back text."""
    chosen = random.Random(1)
    with path.open("w") as file:
        for _ in range(PROMPTS):
            start = chosen.randrange(len(source) - PROMPT_TOKENS)
            ids = [
                FIRST_BYTE + byte
                for byte in source[start : start + PROMPT_TOKENS]
            ]
            file.write(
                json.dumps(
                    {
                        "prompt_token_ids": ids,
                        "output_len_tokens": OUTPUT_TOKENS,
                    }
                )
                + "\n"
            )


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--balance", type=float, required=True)
    parser.add_argument("--each-layer", action="store_true")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Train, say how it goes, and write the model."""
    asked = options()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    used, held = text()
    trained = model(0.0 if asked.each_layer else asked.balance, asked.layers)
    optimizer = torch.optim.AdamW(
        trained.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.01
    )
    held_back = next(batches(held, 7))
    for step, ids in zip(
        range(asked.steps), batches(used, asked.seed), strict=False
    ):
        warm = min(1.0, (step + 1) / 50)
        rate = (
            2e-3
            * warm
            * (0.1 + 0.45 * (1 + math.cos(math.pi * step / asked.steps)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(trained, ids, asked)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == asked.steps - 1:
            with torch.no_grad():
                unseen = trained(
                    input_ids=held_back,
                    labels=held_back,
                    output_router_logits=False,
                ).loss.item()
            print(
                f"step {step}: loss {loss.item():.3f}, unseen text {unseen:.3f}",
                flush=True,
            )
    for number, row in enumerate(loads(trained, held_back)):
        print(f"layer {number}: {row}", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    trained.save_pretrained(asked.out)
    write_prompts(held, asked.out / "prompts.jsonl")


if __name__ == "__main__":
    main()
