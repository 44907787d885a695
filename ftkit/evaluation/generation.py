"""Generate answers for rows drawn from a split: batched, padded on the left, greedy or by beams.

Without autocast, whatever the precision of training: in bfloat16 the padding of a batch moves near ties, so that the batch
size would change the text.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ftkit import console
from ftkit.compat import without_router_loss
from ftkit.data.encode import IGNORED, REFERENCES, Encoded
from ftkit.data.prompts import last_answer
from ftkit.models.architecture import named_positions
from ftkit.recipe.schema import Generation


def generate_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    block: Generation,
    *,
    batch_size: int,
    end_tokens: set[int],
    seed: int,
) -> list[dict[str, Any]]:
    """One object an answer: its entry, the prompt, the target, the generated text, and whether it ended by itself.

    Args:
        end_tokens: token ids that may end an answer.
        seed: of the draw, where there are more entries than are generated for.
    """
    drawn = drawn_places(len(encoded.rows), block.rows, seed)
    pairs = [prompt_and_target(entry, model.config.is_encoder_decoder) for entry in encoded.dataset.select(drawn)]
    count = len(drawn)
    stops = sorted(({target[-1] for _, target in pairs} & end_tokens) | {tokenizer.eos_token_id})
    order = sorted(range(count), key=lambda index: len(pairs[index][0]))
    answers: dict[int, list[int]] = {}
    model.eval()
    with console.progress_bar() as bar, torch.inference_mode(), without_autocast(model):
        task = bar.add_task("generating", total=count)
        for first in range(0, count, batch_size):
            batch = order[first : first + batch_size]
            generated = generate_ids(model, tokenizer, [pairs[index][0] for index in batch], block, stops)
            answers |= dict(zip(batch, generated, strict=True))
            bar.advance(task, len(batch))
    told = [_describe(tokenizer, encoded.rows[entry], *pairs[at], answers[at], stops) for at, entry in enumerate(drawn)]
    references = encoded.known(REFERENCES) or [[]] * len(encoded.rows)
    return [
        {"entry": entry} | answer | all_references(tokenizer, references[entry])
        for entry, answer in zip(drawn, told, strict=True)
    ]


def all_references(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> dict[str, list[str]]:
    """The references of a row that has several, as the tokenizer has them, like the target; nothing of other rows."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return {"references": [tokenizer.decode(own, skip_special_tokens=True).strip() for own in ids]} if texts else {}


def drawn_places(count: int, wanted: int, seed: int) -> list[int]:
    """So many places of `count`, drawn, in their order; all where there are no more."""
    if wanted >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).permutation(count)[:wanted].tolist())


def prompt_and_target(entry: dict[str, Any], encoder_decoder: bool) -> tuple[list[int], list[int]]:
    """The ids to generate from and those to be generated, of one encoded row."""
    if encoder_decoder:
        return entry["input_ids"], [label for label in entry["labels"] if label != IGNORED]
    return last_answer(entry["input_ids"], entry["labels"])


def autocast(device: str, bf16: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16) if bf16 else nullcontext()


@contextmanager
def without_autocast(model: Any) -> Iterator[None]:
    """Inside the block the model computes in the precision of its weights, where the Trainer has measured with it before.

    accelerate's `prepare_model` then puts a forward of its own over the model's, which computes in bfloat16, and leaves it.
    """
    spread = "_hf_hook" in vars(model)  # over several devices, where a forward of its own moves the inputs
    wrapped = None if spread else vars(model).pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.forward = wrapped


def generate_ids(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], block: Generation, stops: list[int]
) -> list[list[int]]:
    """Token ids of an answer a prompt, each up to and with the first stop token.

    In one batch, but for prompts near the model's longest length: their answers have less room, and are generated apart, so
    that they do not cut those of the others.
    """
    rooms = [room_for_answer(model, len(prompt), block) for prompt in prompts]
    answers: dict[int, list[int]] = {}
    for room in sorted(set(rooms)):
        places = [place for place, own in enumerate(rooms) if own == room]
        asked = [prompts[place] for place in places]
        made = generate_batch(model, tokenizer, asked, block, stops, room) if room > 0 else [[] for _ in asked]
        answers |= dict(zip(places, made, strict=True))
    return [answers[place] for place in range(len(prompts))]


def generate_batch(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], block: Generation, stops: list[int], room: int
) -> list[list[int]]:
    """The same for prompts whose answers may all have `room` tokens."""
    width = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    left = not model.config.is_encoder_decoder  # an encoder counts its positions from the left
    padding = [[pad] * (width - len(prompt)) for prompt in prompts]
    rows = zip(padding, prompts, strict=True)
    ids = torch.tensor([[*blank, *prompt] if left else [*prompt, *blank] for blank, prompt in rows])
    masks = [([0] * len(blank), [1] * (width - len(blank))) for blank in padding]
    mask = torch.tensor([[*blank, *full] if left else [*full, *blank] for blank, full in masks])
    with without_router_loss(model):
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=room,
            num_beams=block.num_beams,
            do_sample=False,
            use_cache=True,
            eos_token_id=stops,
            pad_token_id=pad,
        )
    start = 1 if model.config.is_encoder_decoder else width
    return [_until_stop(row, stops) for row in output[:, start:].tolist()]


def room_for_answer(model: Any, width: int, block: Generation) -> int:
    """Tokens that an answer may have behind a prompt of `width` tokens."""
    if model.config.is_encoder_decoder:
        return block.max_new_tokens
    positions = named_positions(model.config)
    return block.max_new_tokens if positions is None else min(block.max_new_tokens, positions - width)


def _until_stop(ids: list[int], stops: list[int]) -> list[int]:
    """The ids up to and with the first stop token."""
    for position, token in enumerate(ids):
        if token in stops:
            return ids[: position + 1]
    return ids


def answer_text(tokenizer: PreTrainedTokenizerBase, ids: list[int], stops: list[int]) -> str:
    """An answer as it is served: without the token that ends it, which need not be a special one."""
    said = ids[:-1] if ids and ids[-1] in stops else ids
    return str(tokenizer.decode(said, skip_special_tokens=True)).strip()


def _describe(
    tokenizer: PreTrainedTokenizerBase,
    row: int,
    prompt: list[int],
    target: list[int],
    answer: list[int],
    stops: list[int],
) -> dict[str, Any]:
    return {
        "row": row,
        "prompt": tokenizer.decode(prompt, skip_special_tokens=True),
        "target": answer_text(tokenizer, target, stops),
        "generated": answer_text(tokenizer, answer, stops),
        "stopped": bool(answer) and answer[-1] in stops,
    }
