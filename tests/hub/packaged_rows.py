"""Sample rows in the form of the data sets that the packaged recipes name: their configurations, splits and columns."""

import io
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from datasets import ClassLabel, Dataset, Features, Sequence, Value

from ftkit.data.samples.table import generate

SENTIMENTS = ClassLabel(names=["negative", "positive"])
TAGS = ClassLabel(names=["O", *(f"{place}-{kind}" for kind in ("person", "place", "organisation") for place in "BI")])
ALIKE = ClassLabel(names=["not_equivalent", "equivalent"])
TOPICS = ClassLabel(names=["World", "Sports", "Business", "Sci/Tech"])
FOLLOWS = ClassLabel(names=["entailment", "neutral", "contradiction"])
TEXT = Value("string")
LANGUAGES = ("en", "de", "fr", "sw")
Rows = list[dict[str, Any]]
Files = dict[str, bytes]


def data_sets(rows: int) -> dict[str, Files]:
    """The files of each data set by its name, with so many rows a split."""
    paired = {"sentence1": TEXT, "sentence2": TEXT, "label": ALIKE}
    spoken = {
        code: splits(partial(followings, code), rows, "train", "validation", features=inference_columns())
        for code in LANGUAGES
    }
    chats = {
        "everyday-conversations": splits(partial(chat_rows, system=False), rows, "train", "test"),
        "systemchats-30k": splits(partial(chat_rows, system=True), rows, "train", "test"),
    }
    stories = splits(partial(generate, "text"), rows, "train")
    return {
        "stanfordnlp/imdb": splits(in_order, rows, "train", "test", features={"text": TEXT, "label": SENTIMENTS}),
        "tatsu-lab/alpaca": splits(partial(generate, "instructions"), rows + 32, "train"),
        "sentence-transformers/stsb": splits(pairs, rows, "train", "validation"),
        "knkarthick/dialogsum": splits(partial(generate, "dialogues"), rows, "train", "validation", "test"),
        "Salesforce/wikitext": configured({"wikitext-2-raw-v1": stories}, {"wikitext-2-raw-v1": "two"}),
        "nyu-mll/glue": configured({"mrpc": splits(alike, rows, "train", "validation", features=paired)}),
        "fancyzhx/ag_news": splits(topics, rows, "train", "test", features={"text": TEXT, "label": TOPICS}),
        "facebook/xnli": configured(spoken),
        "HuggingFaceTB/smoltalk": configured(chats),
    }


def tagged(rows: int) -> Files:
    """What the hub makes of wnut_17, which is a script."""
    return splits(entities, rows, "train", "validation", features={"tokens": Sequence(TEXT), "ner_tags": Sequence(TAGS)})


def inference_columns() -> dict[str, Any]:
    return {"premise": TEXT, "hypothesis": TEXT, "label": FOLLOWS}


def configured(files: dict[str, Files], folders: dict[str, str] | None = None) -> Files:
    """A card with the configurations, and the files of each in a folder, default of its name."""
    card, found = "---\nconfigs:\n", {}
    for name, parts in files.items():
        folder = (folders or {}).get(name, name)
        found |= {f"{folder}/{file}": content for file, content in parts.items()}
        words = [f"{{split: {split}, path: {folder}/{split}*}}" for split in (file.partition("-")[0] for file in parts)]
        card += f"- config_name: {name}\n  data_files: [{', '.join(words)}]\n"
    return {"README.md": f"{card}---\n".encode(), **found}


def splits(make: Callable[..., Rows], rows: int, *names: str, features: dict[str, Any] | None = None) -> Files:
    """A parquet file a split; training rows are in "train", others in the rest."""
    made = {name: make(rows=rows, split="train" if name == "train" else "eval", seed=1) for name in names}
    kinds = Features(features) if features else None
    return {f"{name}-00000-of-00001.parquet": parquet(Dataset.from_list(made[name], features=kinds)) for name in names}


def parquet(rows: Dataset) -> bytes:
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


def in_order(**options: Any) -> Rows:
    """Reviews, the negative ones first, as imdb has them."""
    return sorted(generate("sentiment", **options), key=lambda row: row["label"])


def entities(**options: Any) -> Rows:
    return [{"tokens": row["tokens"], "ner_tags": row["tags"]} for row in generate("entities", **options)]


def pairs(**options: Any) -> Rows:
    """Two sentences, and which share of their words they have in common."""
    texts = [row["text"] for row in generate("sentiment", **options)]
    mixed = Random(1).sample(texts, len(texts))
    return [{"sentence1": one, "sentence2": two, "score": common(one, two)} for one, two in zip(texts, mixed, strict=True)]


def common(one: str, two: str) -> float:
    first, second = {*one.split()}, {*two.split()}
    return len(first & second) / len(first | second)


def alike(**options: Any) -> Rows:
    """Two sentences, and whether they have many words in common: two of three pairs, as in MRPC.

    With halves every batch may happen to be even, and a head whose answers are alike in bfloat16 then does not move.
    """
    found = pairs(**options)
    bound = sorted(row["score"] for row in found)[len(found) // 3]
    return [
        {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "label": int(row["score"] >= bound)} for row in found
    ]


def topics(**options: Any) -> Rows:
    """Stories, each topic as often as the others."""
    texts = generate("text", **options)
    return [{"text": row["text"], "label": number % len(TOPICS.names)} for number, row in enumerate(texts)]


def followings(language: str, **options: Any) -> Rows:
    """Two sentences that begin with their language, so that no two languages share a row."""
    return [
        {"premise": f"{language}: {row['sentence1']}", "hypothesis": row["sentence2"], "label": number % len(FOLLOWS.names)}
        for number, row in enumerate(pairs(**options))
    ]


def chat_rows(system: bool, **options: Any) -> Rows:
    """Chats of one question and its answer."""
    return [{"messages": messages_of(row, system)} for row in generate("instructions", **options)]


def messages_of(row: dict[str, Any], system: bool) -> Rows:
    asked = {"role": "user", "content": f"{row['instruction']} {row['input']}".strip()}
    opening = [{"role": "system", "content": "You teach grammar."}] if system else []
    return [*opening, asked, {"role": "assistant", "content": row["output"]}]
