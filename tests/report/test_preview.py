"""Previews: pieces of text for the tokens that the model gets, and the page and the screen that show them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ftkit.api import preview
from ftkit.data.encode import IGNORED
from ftkit.errors import RecipeError, UserError
from ftkit.recipe.schema import Recipe
from ftkit.report.preview import Piece, Preview, histogram, make_pieces, make_row, visible
from ftkit.report.preview_views import page, terminal
from ftkit.run import write_jsonl


@pytest.fixture
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, with an end token."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def printed(found: Preview, **options: bool) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal(found, **options))
    return console.export_text()


def instruction_rows(path: Path, rows: list[dict[str, str]]) -> str:
    write_jsonl(path, rows + [{"instruction": f"Count to {n}.", "output": f"{n} and {n}."} for n in range(40)])
    return str(path)


@pytest.mark.parametrize("text", ["中文字", "a🙂b", "naïve", "👩‍👧 ok", "\ufffd!"])
def test_characters_of_several_byte_tokens_stay_whole(text: str, bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = bytes_tokenizer(text)["input_ids"]
    pieces = make_pieces(bytes_tokenizer, ids, ids)
    assert joined(pieces) == text
    assert [token for piece in pieces for token in piece.ids] == ids
    if "\ufffd" not in text:
        assert [piece.text for piece in pieces] == list(text)


def test_a_character_is_cut_where_supervision_changes_in_it(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = bytes_tokenizer("字字")["input_ids"]
    pieces = make_pieces(bytes_tokenizer, ids, [IGNORED] * 4 + ids[4:])
    assert [(len(piece.ids), piece.supervised) for piece in pieces] == [(3, False), (1, False), (2, True)]


def test_every_kind_of_tokenizer_gives_the_text_back(stand_in: Callable[[str], Path]) -> None:
    text = "The river is wide, and the boat is small."
    for kind in ("gpt2", "llama", "t5", "distilbert"):
        tokenizer = AutoTokenizer.from_pretrained(stand_in(kind))
        pieces = make_pieces(tokenizer, tokenizer(text)["input_ids"])
        words = "".join(piece.text for piece in pieces if not piece.special)
        assert re.sub(r"\s", "", words).lower() == re.sub(r"\s", "", text).lower(), kind


def test_the_supervised_pieces_are_the_answer_and_its_end(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    answers = {"Say hello in Chinese.": "你好 means hello. 🙂", "Name a river.": "The Nile,\nin Africa."}
    rows = [{"instruction": asked, "output": answer} for asked, answer in answers.items()]
    made = recipe(
        task="instruction", data={"train": instruction_rows(tmp_path / "a.jsonl", rows)}, model={"max_length": 256}
    )
    found = preview(made, rows=1000)
    texts = {joined([p for p in row.pieces if p.supervised]): row for row in found.rows}
    shown = [texts[f"{answer}<|endoftext|>"] for answer in answers.values() if f"{answer}<|endoftext|>" in texts]
    assert shown
    for row in shown:
        assert row.supervised == sum(len(piece.ids) for piece in row.pieces if piece.supervised)
        assert row.length == sum(len(piece.ids) for piece in row.pieces)
        assert [piece.text for piece in row.pieces if piece.special] == ["<|endoftext|>"]
        assert not any(piece.boundary for piece in row.pieces)
    assert {row.name for row in found.rows} <= {f"a.jsonl row {n}" for n in range(1, 43)}
    assert found.entries == len(found.rows) == sum(bar.count for bar in found.histogram)
    assert found.supervised == sum(row.supervised for row in found.rows)


def test_packed_examples_have_their_borders(recipe: Callable[..., Recipe]) -> None:
    found = preview(recipe(task="instruction", kind="llama", data={"packing": True}, model={"max_length": 256}), rows=1000)
    borders = sum(piece.boundary for row in found.rows for piece in row.pieces)
    assert found.unit == "block"
    assert found.examples == borders + found.entries
    assert borders
    assert all(not row.pieces[0].boundary and row.name.startswith("block from ") for row in found.rows)
    assert "│ example 2" in printed(found)
    assert page(found).count('<span class="border"><span>example ') == borders


def test_labels_are_named_and_tokens_are_not_supervised(recipe: Callable[..., Recipe]) -> None:
    found = preview(recipe(), split="eval", rows=3)
    assert {row.label for row in found.rows} <= {"positive", "negative"}
    assert found.supervised is None
    assert found.rows[0].pieces[0] == Piece("[CLS]", found.rows[0].pieces[0].ids, special=True)
    assert "not supervised" not in printed(found)
    assert "counts in the loss" not in page(found)


def test_several_labels_at_once() -> None:
    names = {0: "a", 1: "b", 2: "c"}
    entry: dict[str, Any] = {"input_ids": [], "labels": [1.0, 0.0, 1.0]}
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    assert make_row(entry, "", tokenizer, names).label == "a, c"
    assert make_row({**entry, "labels": [0.0, 0.0, 0.0]}, "", tokenizer, names).label == "no label"


def test_source_and_target_of_an_encoder_decoder(recipe: Callable[..., Recipe], dialogues: Path) -> None:
    data = {"train": str(dialogues), "columns": {"document": "dialogue"}, "gate": {"overlap": 1.0, "dropped": 1.0}}
    found = preview(recipe(task="summarization", kind="t5", data=data, model={"max_length": 256}), rows=2)
    for row in found.rows:
        assert row.target is not None
        assert all(piece.supervised for piece in row.target)
        assert row.target[-1].special
        assert not any(piece.supervised for piece in row.pieces)
    assert "target, for the decoder" in page(found)
    assert "target tokens" in printed(found)


def test_hidden_tokens_are_told(recipe: Callable[..., Recipe], reviews: Path) -> None:
    found = preview(recipe(task="masked-language-modeling", kind="distilbert", data={"train": str(reviews)}), rows=20)
    masked = [piece for row in found.rows for piece in row.pieces if piece.text == "[MASK]"]
    assert masked
    assert all(piece.supervised and piece.special and piece.learnt for piece in masked)
    assert f"[MASK]({masked[0].learnt})" in printed(found).replace("\n", "")
    assert f"learnt here: {masked[0].learnt}" in page(found)


def test_a_tag_stands_beside_the_first_token_of_its_word(stand_in: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stand_in("distilbert"))
    ids = tokenizer("river boat")["input_ids"]
    labels = [IGNORED, 1, *[IGNORED] * (len(ids) - 3), IGNORED]
    pieces = make_row({"input_ids": ids, "labels": labels}, "", tokenizer, {0: "O", 1: "B-place"}).pieces
    assert [piece.learnt for piece in pieces] == [None, "B-place", *[None] * (len(ids) - 2)]
    assert pieces[1].supervised


def test_the_page_needs_nothing_and_escapes(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [{"instruction": "<script>alert('&')</script>", "output": '"><img src=x>'}] * 20
    data = {"train": instruction_rows(tmp_path / "a.jsonl", rows), "gate": {"overlap": 1.0}}
    found = preview(recipe(task="instruction", data=data, model={"max_length": 256}), rows=60)
    html = page(found)
    text = re.sub(r"<[^>]*>", "", html)
    assert "&lt;script&gt;" in text
    assert "<script" not in html
    assert "<img" not in html
    assert not re.search(r"https?://|src=|href=|url\(|@import", html)
    assert "color-scheme: light dark;" in html
    assert "--page: light-dark(" in html
    assert re.search(r'title="id \d+ · supervised"', html)


def test_without_colours_marks_stand_around_the_answer(recipe: Callable[..., Recipe]) -> None:
    found = preview(recipe(task="instruction", kind="gpt2", model={"max_length": 256}), rows=2)
    text = printed(found, colours=False)
    assert "⟦supervised⟧" in text
    assert text.count("<|endoftext|>⟧") == 2
    assert "kept whole" in text
    assert "kept whole" not in printed(found, outcomes=False)


def test_what_cannot_be_seen_is_marked() -> None:
    assert visible("a b") == [("a b", False)]
    assert visible("  ") == [("··", True)]
    assert visible("x\n\t\u001b[1m") == [("x", False), ("⏎\n→\\u001b", True), ("[1m", False)]


def test_bars_hold_every_entry() -> None:
    import numpy as np

    for lengths in ([7], [1, 2, 3], list(range(10, 200)), [5, 5, 500]):
        bars = histogram(np.array(lengths))
        assert sum(bar.count for bar in bars) == len(lengths)
        assert bars[0].first == min(lengths)
        assert bars[-1].last <= max(lengths)
        assert len(bars) <= 16


def test_anyway_shows_first_what_the_gate_refuses(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [{"instruction": "Count very far.", "output": "one two three four " * 60}] * 9
    data = {"train": instruction_rows(tmp_path / "a.jsonl", rows), "over_long": "cut_answer", "eval_size": 8}
    made = recipe(task="instruction", data=data)
    with pytest.raises(RecipeError, match="lose the end of their answer"):
        preview(made)
    found = preview(made, rows=3, anyway=True)
    assert found.rows[0].faults[0] == "cut_answer"
    refused = [fault.rule for fault in found.faults if fault.refused]
    assert "cut_answer" in refused
    assert "refused by data.gate.cut_answer" in printed(found)
    assert "<li class=refused>" in page(found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rows": 0}, "0 rows"),
        ({"split": "tset"}, "no split 'tset'"),
        ({"split": "test"}, "no test rows"),
        ({"split": "test", "smoke": True}, "a smoke run has no test rows"),
    ],
)
def test_nothing_to_show(arguments: dict[str, Any], words: str, recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(UserError, match=words):
        preview(recipe(), **arguments)


def test_the_test_rows(recipe: Callable[..., Recipe]) -> None:
    assert preview(recipe(data={"test_size": 10}), split="test").entries == 10
