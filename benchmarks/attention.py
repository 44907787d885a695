"""Eager attention against torch's fused kernel on a CPU: one training step by sequence length, time and memory.

    python benchmarks/attention.py                          all shapes and lengths, a few minutes
    python benchmarks/attention.py --lengths 64 --shapes encoder

Both models have the same random weights and two layers, stand in one process, and take turns; the figures are medians of
processor seconds on one thread. Rows are padded at the end, from half the length on, as in real batches. The peak is what
torch's profiler sees allocated at once during the step, beyond what stood before it.
"""

import argparse
import copy
import os
import statistics
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
)

LAYERS, VOCABULARY = 2, 8192
LENGTHS = (16, 64, 128, 256, 512, 1024)


def shapes(length: int) -> dict[str, PretrainedConfig]:
    """DistilBERT-base, GPT-2 small, and the 135M Llama shape, which alone has no dropout in its attention."""
    llama = {"hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536}
    return {
        "encoder": DistilBertConfig(n_layers=LAYERS, vocab_size=VOCABULARY, max_position_embeddings=length),
        "gpt2": GPT2Config(n_layer=LAYERS, vocab_size=VOCABULARY, n_positions=length),
        "llama": LlamaConfig(num_hidden_layers=LAYERS, vocab_size=VOCABULARY, max_position_embeddings=length, **llama),
    }


def main() -> None:
    options = parse_arguments()
    print("| shape | batch | length | eager s | sdpa s | eager / sdpa | eager MiB | sdpa MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for shape in options.shapes:
        for length in options.lengths:
            batch = 16 if length <= 64 else 8 if length <= 256 else 4
            seconds, peaks = compare(shapes(length)[shape], batch, length, options.rounds)
            ratio = statistics.median(e / s for e, s in zip(seconds["eager"], seconds["sdpa"], strict=True))
            eager, sdpa = (statistics.median(seconds[name]) for name in ("eager", "sdpa"))
            print(
                f"| {shape} | {batch} | {length} | {eager:.3f} | {sdpa:.3f} | {ratio:.2f} | {peaks['eager']:,.0f} "
                f"| {peaks['sdpa']:,.0f} |",
                flush=True,
            )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--shapes", nargs="+", default=("encoder", "gpt2", "llama"), choices=("encoder", "gpt2", "llama"))
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def compare(
    config: PretrainedConfig, batch: int, length: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Processor seconds of each round, and the peak in MiB, of both kernels."""
    inputs = padded_batch(batch, length)
    models = {name: make(config, name) for name in ("eager", "sdpa")}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        step(model, inputs)
    for _ in range(rounds):
        for name, model in models.items():
            started = time.process_time()
            step(model, inputs)
            seconds[name].append(time.process_time() - started)
    return seconds, {name: peak_of_step(model, inputs) for name, model in models.items()}


def make(config: PretrainedConfig, kernel: str) -> Any:
    encoder = config.model_type == "distilbert"
    auto_class = AutoModelForSequenceClassification if encoder else AutoModelForCausalLM
    torch.manual_seed(0)
    model = auto_class.from_config(copy.deepcopy(config), attn_implementation=kernel)  # which it writes into the config
    assert model.config._attn_implementation == kernel
    return model.train()


def padded_batch(batch: int, length: int) -> dict[str, torch.Tensor]:
    """Rows of half the length up to all of it."""
    sizes = torch.linspace(length // 2, length, batch).long()
    mask = (torch.arange(length)[None, :] < sizes[:, None]).long()
    return {"input_ids": torch.randint(0, VOCABULARY, (batch, length)), "attention_mask": mask}


def step(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Forward and backward under bfloat16 autocast; what is put out matters to none of the two."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs).logits.float().square().mean()
    loss.backward()
    model.zero_grad(set_to_none=False)


def peak_of_step(model: Any, inputs: dict[str, torch.Tensor]) -> float:
    """MiB allocated at once, by adding up what the profiler says was taken and given back."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(model, inputs)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 2**20


if __name__ == "__main__":
    main()
