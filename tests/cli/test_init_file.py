"""Kind: a start from a file. Whatever form rows have, `ftkit init FILE` says what it saw and writes a recipe that is sound."""

import csv
import gzip
import json
import shlex
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import ftkit, one_line

from ftkit import check, load_recipe
from ftkit.cli.drafting import is_data, write_draft
from ftkit.cli.init import init
from ftkit.errors import UserError
from ftkit.recipe.limit import limited
from ftkit.recipe.schema import Recipe

WORDS = [
    "the",
    "old",
    "printer",
    "near",
    "our",
    "door",
    "jams",
    "again",
    "while",
    "every",
    "screen",
    "in",
    "this",
    "room",
    "stays",
    "dark",
    "and",
    "nobody",
    "answers",
    "calls",
]
QUEUES = ["hardware", "network", "accounts"]
ENCODERS = {"text-classification", "text-regression", "token-classification"}


def sentence(number: int, words: int = 9) -> str:
    return " ".join(Random(number).choices(WORDS, k=words)) + f" {number}"


def tickets(count: int = 60) -> list[dict[str, Any]]:
    return [{"body": sentence(number), "queue": QUEUES[number % 3]} for number in range(count)]


def write_csv(
    path: Path, rows: list[dict[str, Any]], separator: str = ",", encoding: str = "utf-8", header: bool = True
) -> None:
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator)
        if header:
            writer.writeheader()
        writer.writerows(rows)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def semicolons(folder: Path) -> Path:
    write_csv(folder / "tickets.csv", tickets(), ";")
    return folder / "tickets.csv"


def without_header(folder: Path) -> Path:
    write_csv(folder / "tickets.tsv", tickets(), "\t", header=False)
    return folder / "tickets.tsv"


def with_mark(folder: Path) -> Path:
    write_csv(folder / "tickets.csv", tickets(), encoding="utf-8-sig")
    return folder / "tickets.csv"


def two_bytes(folder: Path) -> Path:
    write_csv(folder / "tickets.csv", tickets(), encoding="utf-16")
    return folder / "tickets.csv"


def western(folder: Path) -> Path:
    write_csv(folder / "tickets.csv", [row | {"body": f"Gruß {row['body']}"} for row in tickets()], encoding="cp1252")
    return folder / "tickets.csv"


def with_id_and_date(folder: Path) -> Path:
    rows = [{"ticket": 4000 + at, "opened": f"2026-01-{at % 28 + 1:02}", **row} for at, row in enumerate(tickets())]
    write_csv(folder / "tickets.csv", rows)
    return folder / "tickets.csv"


def with_subject(folder: Path) -> Path:
    write_csv(folder / "tickets.csv", [{"subject": sentence(900 + at, 3), **row} for at, row in enumerate(tickets())])
    return folder / "tickets.csv"


def packed(folder: Path) -> Path:
    write_csv(folder / "rows.csv", tickets())
    with zipfile.ZipFile(folder / "tickets.zip", "w") as archive:
        archive.write(folder / "rows.csv", "rows.csv")
    return folder / "tickets.zip"


def zipped(folder: Path) -> Path:
    write_csv(folder / "rows.csv", tickets())
    (folder / "tickets.csv.gz").write_bytes(gzip.compress((folder / "rows.csv").read_bytes()))
    return folder / "tickets.csv.gz"


def parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(tickets()), folder / "tickets.parquet")
    return folder / "tickets.parquet"


def unknown_ending(folder: Path) -> Path:
    write_csv(folder / "tickets.data", tickets(), "|")
    return folder / "tickets.data"


def label_before_text(folder: Path) -> Path:
    lines = "".join(f"{row['queue']}\t{row['body']}\n" for row in tickets())
    (folder / "collection.txt").write_text(lines)
    return folder / "collection.txt"


def ratings(folder: Path) -> Path:
    write_csv(folder / "ratings.csv", [{"review": sentence(at), "rating": at % 5 + 1} for at in range(60)])
    return folder / "ratings.csv"


def several_labels(folder: Path) -> Path:
    rows = [{"text": sentence(at), "tags": ";".join(QUEUES[: at % 3 + 1])} for at in range(60)]
    write_csv(folder / "tagged.csv", rows)
    return folder / "tagged.csv"


def own_split(folder: Path) -> Path:
    rows = [row | {"split": "dev" if at % 5 == 0 else "train"} for at, row in enumerate(tickets())]
    write_csv(folder / "tickets.csv", rows)
    return folder / "tickets.csv"


def conll(folder: Path) -> Path:
    sentences = [
        "\n".join(f"{word}\t{'B-thing' if word == 'printer' else 'O'}" for word in sentence(at).split()) for at in range(60)
    ]
    (folder / "words.conll").write_text("\n\n".join(sentences) + "\n")
    return folder / "words.conll"


def conll_by_another_name(folder: Path) -> Path:
    return conll(folder).rename(folder / "words.bio")


def token_lists(folder: Path) -> Path:
    rows = [{"words": sentence(at).split(), "ner_tags": ["O"] * 9 + ["B-number"]} for at in range(60)]
    write_lines(folder / "words.jsonl", rows)
    return folder / "words.jsonl"


def chats(folder: Path) -> Path:
    turns = [
        [{"role": "user", "content": sentence(at)}, {"role": "assistant", "content": f"It is number {at}."}]
        for at in range(60)
    ]
    write_lines(folder / "chats.jsonl", [{"messages": chat} for chat in turns])
    return folder / "chats.jsonl"


def sharegpt(folder: Path) -> Path:
    turns = [[{"from": "human", "value": sentence(at)}, {"from": "gpt", "value": f"It is {at}."}] for at in range(60)]
    (folder / "chats.json").write_text(json.dumps([{"conversations": chat} for chat in turns]))
    return folder / "chats.json"


def alpaca(folder: Path) -> Path:
    rows = [
        {"instruction": "Name the last word.", "input": sentence(at), "output": f"The word is {at}."} for at in range(60)
    ]
    (folder / "alpaca.json").write_text(json.dumps(rows))
    return folder / "alpaca.json"


def questions(folder: Path) -> Path:
    write_csv(folder / "faq.csv", [{"Question": sentence(at), "Answer": sentence(500 + at, 5)} for at in range(60)])
    return folder / "faq.csv"


def summaries(folder: Path) -> Path:
    rows = [{"article": sentence(at, 40), "highlights": sentence(at, 5)} for at in range(60)]
    write_lines(folder / "news.jsonl", rows)
    return folder / "news.jsonl"


def corpus(folder: Path) -> Path:
    (folder / "corpus.txt").write_text("\n\n".join(sentence(at, 60) for at in range(80)))
    return folder / "corpus.txt"


def lines(folder: Path) -> Path:
    (folder / "lines.txt").write_text("\n".join(sentence(at, 20) for at in range(300)))
    return folder / "lines.txt"


# maker → task, columns, further keys of data or its source
FORMS: dict[Callable[[Path], Path], tuple[str, dict[str, str], dict[str, Any]]] = {
    semicolons: ("text-classification", {"text": "body", "label": "queue"}, {"separator": ";"}),
    without_header: ("text-classification", {}, {"header": ["text", "label"]}),
    with_mark: ("text-classification", {"text": "body", "label": "queue"}, {}),
    two_bytes: ("text-classification", {"text": "body", "label": "queue"}, {"encoding": "utf-16"}),
    western: ("text-classification", {"text": "body", "label": "queue"}, {"encoding": "cp1252"}),
    with_id_and_date: ("text-classification", {"text": "body", "label": "queue"}, {}),
    with_subject: ("text-classification", {"text": "body", "label": "queue"}, {}),
    packed: ("text-classification", {"text": "body", "label": "queue"}, {}),
    zipped: ("text-classification", {"text": "body", "label": "queue"}, {}),
    parquet: ("text-classification", {"text": "body", "label": "queue"}, {}),
    unknown_ending: ("text-classification", {"text": "body", "label": "queue"}, {"separator": "|", "format": "csv"}),
    label_before_text: ("text-classification", {}, {"header": ["label", "text"], "format": "tsv"}),
    ratings: ("text-regression", {"text": "review", "label": "rating"}, {}),
    several_labels: ("text-classification", {"label": "tags"}, {"label_separator": ";"}),
    own_split: ("text-classification", {"text": "body", "label": "queue"}, {"split_column": "split"}),
    conll: ("token-classification", {}, {}),
    conll_by_another_name: ("token-classification", {}, {"format": "conll"}),
    token_lists: ("token-classification", {"tokens": "words", "tags": "ner_tags"}, {}),
    chats: ("instruction", {}, {}),
    sharegpt: ("instruction", {}, {}),
    alpaca: ("instruction", {}, {}),
    questions: ("instruction", {"instruction": "Question", "output": "Answer"}, {}),
    summaries: ("summarization", {"document": "article", "summary": "highlights"}, {}),
    corpus: ("language-modeling", {}, {}),
    lines: ("language-modeling", {}, {"sample_by": "line"}),
}  # fmt: skip


@pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)
def test_a_file_is_read_as_what_it_is(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    task, columns, keys = FORMS[make]
    write_draft(str(make(tmp_path)), task=None, model=None, target=tmp_path / "my.yaml")
    recipe = load_recipe(tmp_path / "my.yaml")
    source = recipe.data.train[0]
    found = {key: getattr(source, key, None) or getattr(recipe.data, key, None) for key in keys}
    assert (recipe.task, recipe.data.columns, found) == (task, columns, keys)


def model_for(task: str, stand_in: Callable[[str], Path]) -> Path:
    return stand_in("distilbert" if task in ENCODERS else "llama")


@pytest.mark.slow
@pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)
def test_the_recipe_is_sound(tmp_path: Path, stand_in: Callable[[str], Path], make: Callable[[Path], Path]) -> None:
    model = model_for(FORMS[make][0], stand_in)
    write_draft(str(make(tmp_path)), task=None, model=str(model), target=tmp_path / "my.yaml")
    check(load_recipe(tmp_path / "my.yaml"))


@pytest.mark.parametrize("form", ["archive", "folder", "member"])
def test_files_of_several_splits_get_a_key_each(tmp_path: Path, stand_in: Callable[[str], Path], form: str) -> None:
    """The kind: what `train` asks to be told, and `init` could not be told."""
    (tmp_path / "rows").mkdir()
    for part, at in (("train", 0), ("dev", 60), ("test", 80)):
        write_csv(tmp_path / f"rows/{part}.csv", tickets(100)[at : at + (60 if part == "train" else 20)])
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        for part in ("train", "dev", "test"):
            archive.write(tmp_path / f"rows/{part}.csv", f"corpus/{part}.csv")
    given = {"archive": "rows.zip", "folder": "rows", "member": "rows.zip/corpus/train.csv"}[form]
    model = model_for("text-classification", stand_in)
    write_draft(str(tmp_path / given), task=None, model=str(model), target=tmp_path / "my.yaml")
    made = load_recipe(tmp_path / "my.yaml")
    facts = check(made).facts
    assert [source.split for source in made.data.train] == ([None] if form == "member" else ["train"])
    assert bool(made.data.test) == (form != "member")
    counts = {name: int(str(words).split()[0]) for name, words in facts.items() if name.endswith(" rows")}
    wanted = (
        {"train rows": 48, "eval rows": 12} if form == "member" else {"train rows": 60, "eval rows": 20, "test rows": 20}
    )
    assert counts == wanted


def test_plain_text_suits_the_model(tmp_path: Path, stand_in: Callable[[str], Path]) -> None:
    file = corpus(tmp_path)
    for kind, task in (("distilbert", "masked-language-modeling"), ("llama", "language-modeling")):
        write_draft(str(file), task=None, model=str(stand_in(kind)), target=tmp_path / f"{kind}.yaml")
        assert load_recipe(tmp_path / f"{kind}.yaml").task == task


def test_it_is_said_what_was_seen_and_what_else_it_could_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, target = str(with_id_and_date(tmp_path)), tmp_path / "my.yaml"
    write_draft(file, task=None, model=None, target=target)
    said = capsys.readouterr().err
    assert "60 rows with the columns ticket, opened, body, queue" in said
    assert "taken: text-classification, one of 3 labels in 'queue' for 'body'" in said
    assert "it could also be language-modeling: say which with --task" in said
    before = target.read_text()
    with pytest.raises(UserError, match="is there already"):
        write_draft(file, task="language-modeling", model=None, target=target)
    assert target.read_text() == before


def test_what_is_a_recipe_and_what_are_rows(tmp_path: Path) -> None:
    names = {
        "a.yaml": ("x: 1\n", False), "b.csv": ("task,text\na,b\n", True), "c.json": ('[{"task": "a", "text": "b"}]', True),
        "d.json": ('{\n  "task": "instruction",\n  "model": "m"\n}', False), "e.conf": ("task: instruction\nmodel: m\n", False),
        "f.annotated": ("word\tO\n", True),
    }  # fmt: skip
    for name, (text, expected) in names.items():
        (tmp_path / name).write_text(text)
        assert is_data(str(tmp_path / name)) is expected, name
    assert not is_data("lora_distilbert")
    assert is_data("rows/*.csv")


def test_a_task_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    write_draft(str(ratings(tmp_path)), task="text-classification", model=None, target=tmp_path / "my.yaml")
    assert load_recipe(tmp_path / "my.yaml").task == "text-classification"


def nothing_to_read(folder: Path) -> Iterator[tuple[Path, str]]:
    (folder / "numbers.csv").write_text("a,b\n" + "".join(f"{at},{at * 2}\n" for at in range(50)))
    yield folder / "numbers.csv", "the columns a, b fit no task; each task needs texts of several words in a column"
    (folder / "picture.bin").write_bytes(bytes(range(256)) * 40)
    yield folder / "picture.bin", "is of no form that can be read; readable are .csv, .tsv, .json"
    (folder / "empty.csv").write_text("")
    yield folder / "empty.csv", "empty"
    (folder / "header.csv").write_text("text,label\n")
    yield folder / "header.csv", "one row shows no task; if it is the header, the file has no rows"
    rows = "".join(f"{sentence(at)},{sentence(at + 1)},{QUEUES[at % 3]}\n" for at in range(40))
    (folder / "twice.csv").write_text("body,body,queue\n" + rows)
    yield folder / "twice.csv", "the header names the column 'body' twice"
    (folder / "excel.csv").write_text("sep=;\nbody;queue\n" + "".join(f"{sentence(at)};{at % 3}\n" for at in range(40)))
    yield folder / "excel.csv", "'sep=' tells Excel the separator, and names no column; remove this line"


def test_what_fits_nothing_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    for file, expected in nothing_to_read(tmp_path):
        with pytest.raises(UserError) as caught:
            write_draft(str(file), task=None, model=None, target=tmp_path / "my.yaml")
        assert expected in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert not (tmp_path / "my.yaml").exists()


NAMES = [
    "te\x1b[31mxt",
    "my\nbody",
    "b\u202edy",
    "bo\u2028dy",
    "no",
    "b: {x}",
    " body ",
    "# body",
    "'",
    '"',
    "\\",
    "💬",
    "\x85",
    "@b",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_holds_any_name_of_a_column_and_a_file(tmp_path: Path, name: str) -> None:
    """Kind: names that YAML reads as something else, or not at all."""
    file = tmp_path / f"{name}.jsonl"
    write_lines(file, [{name: sentence(at), "queue": QUEUES[at % 3]} for at in range(40)])
    write_draft(str(file), task="text-classification", model=None, target=tmp_path / "my.yaml")
    data = load_recipe(tmp_path / "my.yaml").data
    assert (data.columns, data.train[0].path) == ({"text": name, "label": "queue"}, str(file))


@pytest.mark.parametrize("name", ["my recipe.yaml", "it's.yaml", "a;b.yaml", "$HOME.yaml", "ü.yaml"])
def test_commands_that_are_shown_are_those_of_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    init(str(semicolons(tmp_path)), file=None, output=Path(name), task=None, model=None, overwrite=False)
    shown = capsys.readouterr().out.rstrip().partition("ftkit check ")[2].partition("; then: ")
    assert shlex.split(shown[0]) == [name]
    assert shlex.split(shown[2]) == ["ftkit", "train", name, "--limit", "200"]
    head = [line for line in Path(name).read_text().splitlines() if line.startswith("#   ftkit")]
    assert all(shlex.split(line.removeprefix("#"))[2] == name for line in head)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_machine_ends_them(tmp_path: Path, end: str) -> None:
    lines = ["body,queue", *(f"{sentence(at)},{QUEUES[at % 3]}" for at in range(40))]
    (tmp_path / "t.csv").write_bytes((end.join(lines) + end).encode())
    write_draft(str(tmp_path / "t.csv"), task=None, model=None, target=tmp_path / "my.yaml")
    assert load_recipe(tmp_path / "my.yaml").data.columns == {"text": "body", "label": "queue"}


def test_of_very_many_columns_some_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "wide.csv", [row | {f"f{at}": at for at in range(600)} for row in tickets()])
    write_draft(str(tmp_path / "wide.csv"), task=None, model=None, target=tmp_path / "my.yaml")
    assert "f27 and 572 more\n" in capsys.readouterr().err


def test_limit_draws_so_many_rows_for_training_and_measuring(recipe: Callable[..., Recipe]) -> None:
    few = limited(recipe(data={"eval_size": 50}), 40)
    assert (few.data.train[0].rows, few.data.eval_size, few.evaluation.rows) == (40, 8, 40)
    again = limited(recipe(data={"eval_size": 50}), 40)
    assert few.model_dump() == again.model_dump()
    with pytest.raises(UserError, match="too few"):
        limited(recipe(), 2)


@pytest.mark.slow
def test_train_takes_a_file_and_trains_on_few_of_its_rows(tmp_path: Path, stand_in: Callable[[str], Path]) -> None:
    file = semicolons(tmp_path)
    words = ["training.num_train_epochs=1", "--limit", "30", "--model", str(stand_in("distilbert")), "-o", "run"]
    done = ftkit("train", file, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tickets.yaml").is_file()
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert report["rows"] == 60
    assert sum(count for fate, count in report["fates"].items() if "kept" in fate) == 30
    assert "is there already" in one_line(ftkit("train", file, *words))


RAW = ["banking77/train.csv", "emobank/emobank.csv", "mts-dialog/MTS-Dialog-TrainingSet.csv", "rt-polarity/rt-polarity.pos",
       "rasbt-instruct/instruction-data.json", "squadshifts/new_wiki_v1.0.json", "tinystories/tinystories_sample.txt",
       "truthfulqa/TruthfulQA.csv", "wikitext2/valid.txt", "wnut17/emerging.test.annotated"]  # fmt: skip


@pytest.mark.slow
def test_raw_files_of_public_sets_make_sound_recipes(shared: Path, tmp_path: Path) -> None:
    sound = []
    for name in RAW:
        file, target = str(shared / "data" / name), tmp_path / "my.yaml"
        write_draft(file, task=None, model=str(shared / "models/stories260K"), target=target, overwrite=True)
        if load_recipe(target).task in ENCODERS:
            write_draft(file, task=None, model=str(shared / "models/minilm-l6"), target=target, overwrite=True)
        try:
            check(load_recipe(target))
            sound.append(name)
        except UserError:
            continue
    assert len(sound) >= 9, set(RAW) - set(sound)
