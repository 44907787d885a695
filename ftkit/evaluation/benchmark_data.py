"""Benchmarks from local files: the harness's own task definitions, told to read rows that were put into their columns here.

Prompts, metrics and few-shot settings stay the harness's; only where a task reads its rows from is replaced.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset

from ftkit.errors import UserError

Row = dict[str, Any]
LETTERS = "ABCDEFGH"
SPLIT_KEYS = ("training_split", "validation_split", "test_split")


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's files are looked for, and how one of their rows gets the columns that the harness's task reads.

    Attributes:
        tasks: the folder below the harness's tasks that defines it.
        folder: the folder below the data folder; the files may also lie in the data folder itself.
        files: by split, the names under which the file is known; `{subject}` stands for each of the harness's subjects.
        convert: makes a row of the harness's from one of the file; a fault of the row is a KeyError, TypeError, ValueError
            or IndexError.
        published: evaluation rows of the set on the hub.
    """

    tasks: str
    folder: str
    files: Mapping[str, tuple[str, ...]]
    convert: Callable[[Any], Row]
    published: int


def arc_row(row: Row) -> Row:
    """From AI2's form, the hub's, or query, choices and the number of the right one."""
    if "gold" in row:
        labels = list(LETTERS[: len(row["choices"])])
        question = row["query"].removeprefix("Question: ")
        return _arc(question, [text_in(text) for text in row["choices"]], labels, labels[row["gold"]])
    if isinstance(row["question"], dict):
        choices = row["question"]["choices"]
        texts, labels = [choice["text"] for choice in choices], [choice["label"] for choice in choices]
        return _arc(row["question"]["stem"], texts, labels, row["answerKey"])
    return _arc(row["question"], row["choices"]["text"], row["choices"]["label"], row["answerKey"])


def _arc(question: str, texts: list[str], labels: list[str], answer: str) -> Row:
    labels.index(answer)
    return {"question": text_in(question), "choices": {"text": texts, "label": labels}, "answerKey": answer}


def hellaswag_row(row: Row) -> Row:
    names = ("activity_label", "ctx_a", "ctx_b")
    _ = row["endings"][int(row["label"])]
    return {name: text_in(row[name]) for name in names} | {"endings": row["endings"], "label": str(row["label"])}


def truthfulqa_row(row: Row) -> Row:
    """Answers with 1 where true; the harness takes the first of `mc1_targets` for the right one."""
    made: Row = {"question": text_in(row["question"])}
    for name in ("mc1_targets", "mc2_targets"):
        given = row[name]
        answers = dict(zip(given["choices"], given["labels"], strict=True)) if "labels" in given else given
        made[name] = {"choices": list(answers), "labels": [int(answer) for answer in answers.values()]}
    if made["mc1_targets"]["labels"] != [1] + [0] * (len(made["mc1_targets"]["labels"]) - 1):
        raise ValueError("the first of mc1_targets is not the only right one")
    return made


def mmlu_row(cells: list[str]) -> Row:
    """Question, four choices, and the answer as a letter or as a number from 0."""
    question, *choices, answer = cells
    number = LETTERS.index(answer) if answer in LETTERS else int(answer)
    if len(choices) != 4 or not 0 <= number < 4:
        raise ValueError("not four choices and one of them")
    return {"question": question, "choices": choices, "answer": number}


def gsm8k_row(row: Row) -> Row:
    if "####" not in row["answer"]:
        raise ValueError("the answer has no line with ####")
    return {"question": text_in(row["question"]), "answer": row["answer"]}


def text_in(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


BENCHMARKS: dict[str, Benchmark] = {
    "arc_easy": Benchmark("arc", "arc", {"test": ("ARC-Easy-Test.jsonl", "arc_easy.jsonl")}, arc_row, 2376),
    "arc_challenge": Benchmark(
        "arc", "arc", {"test": ("ARC-Challenge-Test.jsonl", "arc_challenge.jsonl")}, arc_row, 1172
    ),
    "hellaswag": Benchmark(
        "hellaswag", "hellaswag", {"validation": ("hellaswag_val.jsonl", "hellaswag.jsonl")}, hellaswag_row, 10042
    ),
    "mmlu": Benchmark(
        "mmlu/default", "mmlu",
        {"test": ("test/{subject}_test.csv",), "dev": ("dev/{subject}_dev.csv",)}, mmlu_row, 14042,
    ),
    "truthfulqa_mc1": Benchmark("truthfulqa", "truthfulqa", {"validation": ("mc_task.json",)}, truthfulqa_row, 817),
    "truthfulqa_mc2": Benchmark("truthfulqa", "truthfulqa", {"validation": ("mc_task.json",)}, truthfulqa_row, 817),
    "gsm8k": Benchmark("gsm8k", "gsm8k", {"test": ("test.jsonl",), "train": ("train.jsonl",)}, gsm8k_row, 1319),
}  # fmt: skip


def write_local_tasks(names: Iterable[str], data_dir: Path, entries: Mapping[str, Any], folder: Path) -> list[str]:
    """Definitions that include the harness's own and read local rows, for a `TaskManager` on `folder`.

    Args:
        entries: the harness's index, `TaskManager.task_index`.

    Returns:
        What a reader of the scores must know, as subjects that are not there.

    Raises:
        UserError: a file is missing, or a row is in no form that is known.
    """
    if not data_dir.is_dir():
        raise UserError(f"there is no folder {data_dir}", "name the folder that holds the benchmarks' files", "--data-dir")
    caveats = []
    for name in names:
        if "group" in entries[name].cfg:
            caveats += _write_group(name, data_dir, entries, folder)
        else:
            files = {split: find_file(name, split, data_dir) for split in BENCHMARKS[name].files}
            _write_task(name, files, BENCHMARKS[name], entries, folder)
    return caveats


def _write_group(name: str, data_dir: Path, entries: Mapping[str, Any], folder: Path) -> list[str]:
    """The subjects that are there, in the harness's groups."""
    benchmark, prefix = BENCHMARKS[name], f"{name}_"
    tags = {tag for group in entries[name].cfg["task"] for tag in entries[group].cfg["task"]}
    subjects = sorted(task for tag in tags for task in entries[tag].tags)
    found = {}
    for subject in subjects:
        try:
            short = subject.removeprefix(prefix)
            found[subject] = {split: find_file(name, split, data_dir, short) for split in benchmark.files}
        except UserError:
            continue
    if not found:
        find_file(name, "test", data_dir, subjects[0].removeprefix(prefix))  # says where it is looked for
        find_file(name, "dev", data_dir, subjects[0].removeprefix(prefix))
    for subject, files in found.items():
        _write_task(subject, files, benchmark, entries, folder)
    groups = [group for group in entries[name].cfg["task"] if any(_tag(entries, group) & entries[s].tags for s in found)]
    for group in groups:
        _write_yaml(folder / f"{group}.yaml", {"include": str(entries[group].yaml_path)})
    _write_yaml(folder / f"{name}.yaml", {"include": str(entries[name].yaml_path), "task": groups})
    shown = ", ".join(list(found)[:5]) + (", …" if len(found) > 5 else "")
    some = f"{name}: {len(found)} of {len(subjects)} subjects are in {data_dir}: {shown}"
    return [some] if len(found) < len(subjects) else []


def _tag(entries: Mapping[str, Any], group: str) -> set[str]:
    return set(entries[group].cfg["task"])


def _write_task(
    task: str, files: Mapping[str, Path], benchmark: Benchmark, entries: Mapping[str, Any], folder: Path
) -> None:
    """Rows as parquet, whose types are said, and a definition with the harness's own but for where rows come from."""
    rows = {split: str(folder / f"{task}_{split}.parquet") for split in files}
    for split, file in files.items():
        Dataset.from_list(list(convert_file(file, benchmark))).to_parquet(rows[split])
    config = entries[task].cfg
    absent = {key: None for key in SPLIT_KEYS if config.get(key) is not None and config[key] not in files}
    source = {"data_files": rows, "cache_dir": str(folder / "cache")}
    values = {"dataset_path": "parquet", "dataset_name": None, "dataset_kwargs": source, **absent}
    _write_yaml(folder / f"{task}.yaml", {"include": str(entries[task].yaml_path), "task": task, **values})


def _write_yaml(path: Path, values: Row) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def find_file(name: str, split: str, data_dir: Path, subject: str = "") -> Path:
    """The file of a benchmark's split.

    Raises:
        UserError: it is at none of its places.
    """
    benchmark = BENCHMARKS[name]
    known = [file.format(subject=subject) for file in benchmark.files[split]]
    for file in known:
        for place in (data_dir / benchmark.folder / file, data_dir / file):
            if place.is_file():
                return place
    where = f"looked for in {data_dir / benchmark.folder} and {data_dir}"
    raise UserError(f"{name} needs {' or '.join(known)}", where, "--data-dir")


def convert_file(path: Path, benchmark: Benchmark) -> Iterator[Row]:
    """The rows with the harness's columns.

    Raises:
        UserError: the file cannot be read, or a row is in no form that is known.
    """
    number = 0
    try:
        for number, row in enumerate(read_rows(path), 1):  # noqa: B007 the fault is told with the row's number
            yield benchmark.convert(row)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        hint = "keep to the form in which the benchmark is published"
        place = f"{path}: row {number}" if number else str(path)
        raise UserError(f"not a row of this benchmark ({type(error).__name__}: {error})", hint, place) from error
    if not number:
        raise UserError("no rows", "the file is empty", str(path))


def read_rows(path: Path) -> Iterator[Any]:
    """Objects of a .jsonl or a .json file, lists of cells of a .csv file without its header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".csv":
            rows = csv.reader(file)
            yield from (row for number, row in enumerate(rows) if number or row[:1] != ["question"])
        elif path.suffix == ".json":
            yield from json.load(file)
        else:
            yield from (json.loads(line) for line in file if line.strip())
