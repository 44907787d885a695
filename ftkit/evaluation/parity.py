"""Prompt parity: the prompts that a run was trained on are those that plain transformers builds from the saved folder.

While training, a few rows are written down with the token ids of their prompt. Verifying builds those prompts again from the
saved folder alone: its tokenizer, its chat template, its prompt_template.json.
"""

from dataclasses import dataclass
from difflib import ndiff
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ftkit.data.bounds import render_chat_template
from ftkit.data.chat_templates import TEMPLATE_ERRORS
from ftkit.data.encode import Encoded
from ftkit.data.ledger import Ledger, Outcome, row_numbers
from ftkit.data.prompts import fill, last_answer
from ftkit.reading import object_if_there
from ftkit.run import PROMPT_TEMPLATE
from ftkit.tasks.base import Task

ENTRIES = 8


@dataclass(frozen=True)
class Difference:
    """A prompt that the saved folder builds otherwise than it was trained on; `diff` has a line a token."""

    row: str
    trained: int
    saved: int
    diff: str


def record(task: Task, rows: Any, encoded: Encoded, ledger: Ledger, encoder_decoder: bool) -> list[dict[str, Any]]:
    """A few rows that were kept whole: what their prompt is made of, and the token ids that it became."""
    if not task.generates or "position_ids" in encoded.dataset.column_names:
        return []
    found, numbers = [], row_numbers(rows)
    for index, row in enumerate(encoded.rows):
        is_last = encoded.rows[index + 1 : index + 2] != [row]  # of a row's entries, as its prompt is of its last answer
        if encoded.outcomes[row] == Outcome.KEPT and is_last and (parts := task.prompt_parts(rows[row])):
            entry = encoded.dataset[index]
            ids = entry["input_ids"] if encoder_decoder else last_answer(entry["input_ids"], entry["labels"])[0]
            found.append({"row": ledger.name([numbers[row]]), **parts, "ids": ids})
        if len(found) == ENTRIES:
            break
    return found


def compare(folder: Path, entries: list[dict[str, Any]], *, own_code: bool) -> list[Difference]:
    """Build each prompt by plain transformers from a model's folder, and compare its ids with those of training.

    Args:
        own_code: whether code in the folder may be run.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=own_code)
    file = folder / PROMPT_TEMPLATE
    forms = object_if_there(file)
    differences = []
    for entry in entries:
        saved = build(tokenizer, forms, entry)
        trained = entry["ids"][: len(saved)] if entry.get("shown") and saved else entry["ids"]  # less shown reasoning
        if saved != trained:
            diff = token_diff(tokenizer, trained, saved)
            differences.append(Difference(entry["row"], len(trained), len(saved), diff))
    return differences


def build(tokenizer: PreTrainedTokenizerBase, forms: dict[str, str], entry: dict[str, Any]) -> list[int]:
    """The ids of one prompt, as somebody who serves the model would get them; empty where it cannot be built."""
    if "messages" in entry:
        options = {"tools": entry.get("tools") or None, "add_generation_prompt": True, **entry.get("arguments", {})}
        try:
            render_chat_template(tokenizer, entry["messages"], **options)  # within bounds, before it is rendered without
            return list(tokenizer.apply_chat_template(entry["messages"], return_dict=False, **options))
        except TEMPLATE_ERRORS:
            return []
    text = fill(forms.get(entry["form"], ""), entry["values"])
    ids: list[int] = list(tokenizer(text)["input_ids"])
    if len(ids) == len(entry["ids"]) + 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()  # some tokenizers end every text; an answer could not follow
    return ids


def token_diff(tokenizer: PreTrainedTokenizerBase, trained: list[int], saved: list[int]) -> str:
    """The tokens that differ, a line each: - as trained, + as saved."""
    before, after = ([repr(tokenizer.decode([token])) for token in ids] for ids in (trained, saved))
    lines = ndiff(before, after)
    return "\n".join(line for line in lines if line[0] in "+-")
