"""Kind: rows taken for another task than they are for, as their words have no spaces or their numbers no names.

Swept over scripts with spaces and without, over what whole numbers may count or name, and over texts by their columns' names.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from datasets import Dataset

from ftkit.cli.drafting import Reader, choose
from ftkit.data.guess import columns_of, guesses
from ftkit.data.scripts import count_words, split_words
from ftkit.errors import UserError

ROWS = 240
Cell = Callable[[int], Any]

# Words of a script, and what parts them.
SCRIPTS = {
    "Latin": (
        ["the", "old", "printer", "near", "our", "door", "jams", "again", "while", "every", "screen", "stays", "dark"],
        " ",
    ),
    "Cyrillic": (["старый", "принтер", "у", "двери", "снова", "молчит", "пока", "экран", "в", "комнате", "тёмный"], " "),
    "Hangul": (["강은", "다리", "근처에서", "일찍", "얼었다", "어제", "아무도", "표를", "사지", "않았다"], " "),
    "Arabic": (["تجمد", "النهر", "مبكرا", "قرب", "الجسر", "ولم", "يشتر", "أحد", "تذكرة", "أمس"], " "),
    "Han": (["今天", "天气", "很好", "我们", "公园", "散步", "电影", "音乐", "城市", "河流"], ""),
    "Japanese": (["川は", "橋の", "近くで", "早く", "凍った", "きのう", "誰も", "買わない"], ""),
    "Thai": (["แม่น้ำ", "แข็งตัว", "เร็ว", "ใกล้", "สะพาน", "เมื่อวาน", "ไม่มี", "ซื้อ"], ""),
    "Khmer": (["ទន្លេ", "កក", "នៅ", "ឆ្នាំ", "ជិត", "ស្ពាន", "សំបុត្រ"], ""),
    "Han and Latin": (["今天", "iPhone", "手机", "很好", "Wi-Fi", "网络", "😀"], ""),
}
UNSPACED = [name for name, (_, sign) in SCRIPTS.items() if not sign]


def of(script: str, words: int, seed: int = 0) -> Cell:
    """A text of so many words for each row."""
    known, sign = SCRIPTS[script]
    return lambda row: sign.join(Random(1000 * seed + row).choices(known, k=words))


def english(words: int, seed: int = 0) -> Cell:
    return of("Latin", words, seed)


def one_of(*values: Any) -> Cell:
    return lambda row: values[row % len(values)]


def found(**columns: Cell) -> dict[str, dict[str, str]]:
    rows = Dataset.from_dict({name: [cell(row) for row in range(ROWS)] for name, cell in columns.items()})
    tasks: dict[str, dict[str, str]] = {}
    for guess in guesses(columns_of(rows)):
        tasks.setdefault(guess.task, guess.columns)
    return tasks


def first(**columns: Cell) -> tuple[str, dict[str, str]] | None:
    return next(iter(found(**columns).items()), None)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_makes_no_other_task(script: str) -> None:
    labels = one_of(*SCRIPTS[script][0][:2])
    for text, label in (("text", "label"), ("内容", "ชื่อ")):
        assert first(**{text: of(script, 8), label: labels}) == ("text-classification", {"text": text, "label": label})
    assert first(question=of(script, 6), answer=of(script, 9, 1)) == (
        "instruction", {"instruction": "question", "output": "answer"},
    )  # fmt: skip
    assert first(article=of(script, 40), tldr=of(script, 4, 1)) == (
        "summarization", {"document": "article", "summary": "tldr"},
    )  # fmt: skip
    assert first(words=of(script, 30)) == ("language-modeling", {"text": "words"})


@pytest.mark.parametrize("script", ["Han", "Japanese"])
def test_a_column_of_names_is_no_text(script: str) -> None:
    letters = "".join(SCRIPTS[script][0])
    assert found(name=lambda row: "".join(Random(row).choices(letters, k=3))) == {}
    assert found(code=lambda row: f"{letters[row % len(letters)]}{row}", number=lambda row: row) == {}


# Cells of one column, its name → whether the numbers are a quantity.
NUMBERS: dict[str, tuple[str, Cell, bool]] = {
    "prices, each of them often": ("label", lambda row: 1000 + 13 * (row % 40), True),
    "prices, rounded": ("cost", lambda row: 50 * (row % 30 + 1), True),
    "prices, few alike": ("label", lambda row: Random(row).randint(900, 1500), True),
    "gains and losses": ("result", lambda row: (row % 40 - 20) * 25, True),
    "fractions": ("label", lambda row: round(Random(row).random(), 2), True),
    "ratings by name": ("rating", lambda row: row % 5 + 1, True),
    "ratings without a name": ("label", lambda row: row % 5 + 1, False),
    "below 0 and above": ("label", lambda row: row % 3 - 1, False),
    "yes and no": ("label", lambda row: row % 2 == 0, False),
    "years": ("year", lambda row: 1990 + row % 30, False),
    "fifty classes": ("label", lambda row: row % 50, False),
    "some of 150 classes": ("label", lambda row: 4 * (row % 30) + 1, False),
    "numbers of intents": ("intent", lambda row: 1000 + 13 * (row % 40), False),
    "codes of places": ("zip_code", lambda row: 10001 + 717 * (row % 30), False),
}


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_quantity_is_told_from_a_class(numbers: str) -> None:
    name, cells, quantity = NUMBERS[numbers]
    task = "text-regression" if quantity else "text-classification"
    assert first(text=english(9), **{name: cells}) == (task, {"text": "text", "label": name})


@pytest.mark.parametrize("form", ["{:.4f}", "{:.3e}", "-{:.6f}", "{:.12g}"])
@pytest.mark.parametrize("name", ["score", "y"])
def test_numbers_of_which_each_is_another_are_no_ids(name: str, form: str) -> None:
    """A csv file gives them as texts of one word."""
    cells = {name: lambda row: form.format(Random(row).random() * 10)}
    assert first(text=english(9), **cells) == ("text-regression", {"text": "text", "label": name})


@pytest.mark.parametrize("name", ["price", "views", "score"])
def test_a_label_by_name_goes_before_another_number(name: str) -> None:
    columns = {"text": english(9), name: lambda row: 7 * Random(row).randint(0, 10**5), "label": one_of("a", "b")}
    assert first(**columns) == ("text-classification", {"text": "text", "label": "label"})


@pytest.mark.parametrize("values", [("nan", "inf"), ("1e999", "2"), ("NaN", "-Infinity", "0")])
def test_words_that_python_reads_as_no_number_are_labels(values: tuple[str, ...]) -> None:
    assert first(text=english(9), label=one_of(*values)) == ("text-classification", {"text": "text", "label": "label"})


def test_ids_and_numbers_alone_fit_no_task() -> None:
    assert found(a=lambda row: row, b=lambda row: row * 3 % 17) == {}
    assert first(id=lambda row: row, text=english(9), kind=one_of("a", "b")) == (
        "text-classification", {"text": "text", "label": "kind"},
    )  # fmt: skip


@pytest.mark.parametrize("words", [1, 2, 3, 12])
def test_names_say_what_is_a_summary_however_short(words: int) -> None:
    columns = {"document": english(14), "summary": english(words, 1)}
    assert first(**columns) == ("summarization", {"document": "document", "summary": "summary"})


def test_a_class_is_no_summary_though_it_has_words() -> None:
    labels = one_of("local news from the town", "world news of all kinds")
    assert first(article=english(14), category=labels) == ("text-classification", {"text": "article", "label": "category"})
    assert first(abstract=english(14), category=labels) == ("text-classification", {"text": "abstract", "label": "category"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plain words here", ["plain", "words", "here"]), ("강은 다리", ["강은", "다리"]), ("今天很好", list("今天很好")),
        ("2024年买iPhone手机", ["2024", "年", "买", "iPhone", "手", "机"]), ("コーヒー", list("コーヒー")), ("", []),
        ("น้ำดี", ["น้", "ำ", "ดี"]), ("😀🎉 👍🏽", ["😀🎉", "👍🏽"]), ("〇々", ["〇", "々"]), ("नदी में", ["नदी", "में"]), ("।。", ["।。"]),
    ],
)  # fmt: skip
def test_words_end_where_the_script_ends_them(text: str, words: list[str]) -> None:
    assert split_words(text) == words
    assert len(words) / 2 <= count_words(text) <= len(words)


@pytest.mark.parametrize("script", UNSPACED)
def test_the_length_that_is_taken_grows_with_the_text(script: str) -> None:
    """What a recipe may have of tokens a row is no handful where a text is one word by its spaces."""
    rows = Dataset.from_dict({"text": [of(script, 60)(row) for row in range(ROWS)], "label": ["a", "b"] * (ROWS // 2)})
    guess, _ = choose(columns_of(rows), None, "a.csv", foretells=True)
    assert Reader(None).length(rows, guess)[0] >= 96


def test_a_task_that_does_not_fit_is_named() -> None:
    rows = Dataset.from_dict({"a": list(range(ROWS)), "b": list(range(ROWS))})
    with pytest.raises(UserError, match="the columns a, b fit no task"):
        choose(columns_of(rows), None, "a.csv", foretells=True)
    with pytest.raises(UserError, match="the columns a, b do not fit summarization"):
        choose(columns_of(rows), "summarization", "a.csv", foretells=True)
