"""The kind: something that is no tokenizer of the model is taken for one, wherever it came from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from ftkit import api
from ftkit.cli.synth import _local
from ftkit.errors import RecipeError, Unverified, UserError
from ftkit.models.load import load_tokenizer
from ftkit.recipe.schema import Model, Recipe
from ftkit.run import Run, write_jsonl
from ftkit.synthesis.synthesize import Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
VOCABULARY = {token: number for number, token in enumerate(SPECIAL.values())}
LETTERS = VOCABULARY | {letter: 5 + number for number, letter in enumerate("abcdefgh")}
FORMS: dict[str, Callable[[dict[str, int]], Any]] = {
    "wordpiece": lambda words: models.WordPiece(words, unk_token="[UNK]"),
    "bpe": lambda words: models.BPE(words, [], unk_token="[UNK]"),
    "unigram": lambda words: models.Unigram([(word, -1.0) for word in words], unk_id=1),
}
TYPES = {"wordpiece": "distilbert", "bpe": "gpt2", "unigram": "t5"}


def tokenizer_of(form: str, words: dict[str, int]) -> PreTrainedTokenizerFast:
    """A tokenizer with these words and no others."""
    made = Tokenizer(FORMS[form](words))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=128, eos_token="[SEP]", **SPECIAL)


def put_in(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The tokenizer in place of a model folder's own."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def with_tokenizer(stand_in: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    def make(form: str, words: dict[str, int], entries: int | None = None) -> Path:
        folder = Path(shutil.copytree(stand_in(TYPES[form]), tmp_path / form))
        if entries is not None:
            config = json.loads((folder / "config.json").read_text()) | {"vocab_size": entries}
            (folder / "config.json").write_text(json.dumps(config))
        return put_in(folder, tokenizer_of(form, words))

    return make


@pytest.fixture
def cached(stand_in: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A hub id of which the cache has config and weights alone."""

    def make(kind: str) -> str:
        cache = tmp_path / "hub"
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        folder = cache / f"models--tiny--{kind}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(COMMIT)
        shutil.copytree(stand_in(kind), folder / "snapshots" / COMMIT, ignore=shutil.ignore_patterns("*token*"))
        return f"tiny/{kind}"

    return make


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("words", "entries", "found"),
    [
        (VOCABULARY, None, r"has no words, only special tokens: \[CLS\], .*; take the one that the model was trained with"),
        (LETTERS, None, r"has 13 tokens, the model [\d,]+: it is not whole, or another model's"),
        (LETTERS | {"i": 20_000}, None, r"with ids up to 20000, the model \d+ entries|tokens, the model"),
    ],
    ids=["empty", "small", "beyond"],
)
def test_what_cannot_be_the_models_is_refused(
    with_tokenizer: Callable[..., Path], form: str, words: dict[str, int], entries: int | None, found: str
) -> None:
    with pytest.raises(UserError, match=found) as caught:
        load_tokenizer(Model(name=str(with_tokenizer(form, words, entries))))
    assert caught.value.key == "model.name"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("entries", [13, 26, 128, 13 + 256])
def test_a_small_tokenizer_of_a_small_or_padded_embedding_is_taken(
    with_tokenizer: Callable[..., Path], form: str, entries: int
) -> None:
    assert len(load_tokenizer(Model(name=str(with_tokenizer(form, LETTERS, entries))))) == 13


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "gpt2", "llama", "mistral", "t5", "mbart", "xlnet"])
def test_what_transformers_makes_of_no_files_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whatever type of model: some become an empty tokenizer, some a list of what could have been tried."""
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    monkeypatch.setattr("ftkit.models.load.require_files", lambda *found: None)  # as of a repository, which has no folder
    with pytest.raises(UserError, match=r"no words|no tokenizer can be made") as caught:
        load_tokenizer(Model(name=str(tmp_path)))
    assert "there are no files of one" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_real_tokenizers_are_taken(shared: Path) -> None:
    for name, tokens in {"minilm-l6": 30_522, "stories260K": 512, "babyllama-361": 361}.items():
        assert len(load_tokenizer(Model(name=str(shared / "models" / name)))) == tokens


@pytest.mark.parametrize("command", ["train", "check", "preview", "plan", "evaluate"])
@pytest.mark.parametrize(("kind", "task"), [("distilbert", "text-classification"), ("gpt2", "instruction")])
def test_a_cache_that_lacks_the_tokenizer_is_named_by_every_command(
    recipe: Callable[..., Recipe], cached: Callable[[str], str], command: str, kind: str, task: str
) -> None:
    made = recipe(task=task, model={"name": cached(kind)})
    if command == "evaluate":
        given: Any = (made.model.name,), {"task": task, "data": made.data.train[0].path}
    else:
        given = (made,), {}
    with pytest.raises(UserError, match=r"the tokenizer of tiny/\w+ has no words|no tokenizer can be made") as caught:
        getattr(api, command)(*given[0], **given[1])
    assert "not in the cache" in str(caught.value)
    assert not Path("runs").exists()


def test_a_model_that_writes_rows_or_is_benchmarked_is_looked_at_too(cached: Callable[[str], str], tmp_path: Path) -> None:
    name = cached("gpt2")
    with pytest.raises(UserError, match="has no words"):
        _local(Model(name=name), Settings(rows=1, temperature=0.0, max_new_tokens=4))
    question = {"stem": "What is wet?", "choices": [{"label": "A", "text": "Water"}, {"label": "B", "text": "Fire"}]}
    write_jsonl(tmp_path / "ARC-Easy-Test.jsonl", [{"id": "1", "question": question, "answerKey": "A"}])
    with pytest.raises(UserError, match="has no words"):
        api.benchmark(name, ["arc_easy"], data_dir=tmp_path)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, stand_in: Callable[[str], Path], instructions: Path) -> Path:
    """A finished run whose tokenizer was lost, as by a copy that broke off."""
    from ftkit.recipe.load import load_values

    made = load_values({
        "task": "instruction", "model": {"name": str(stand_in("gpt2")), "max_length": 128},
        "strategy": {"name": "lora", "r": 2, "target_modules": ["c_attn"]},
        "data": {"train": str(instructions), "eval_size": 4},
        "training": {"max_steps": 1}, "evaluation": {"baseline": False},
    })  # fmt: skip
    folder = api.train(made, output_dir=tmp_path_factory.mktemp("damaged") / "run").folder
    put_in(folder / "model", tokenizer_of("bpe", VOCABULARY))
    return folder


def use(command: str, folder: Path, target: Path) -> None:
    from ftkit.delivery.export import export
    from ftkit.delivery.merge import merge

    uses: dict[str, Callable[[], Any]] = {
        "predict": lambda: list(api.predict(folder, [{"instruction": "Name it.", "input": ""}])),
        "chat": lambda: api.conversation(Run(folder), max_new_tokens=4, temperature=0.0, seed=1),
        "eval": lambda: api.evaluate(folder),
        "merge": lambda: merge(folder, target),
        "export": lambda: export(folder, target, kind="safetensors"),
    }
    uses[command]()


@pytest.mark.parametrize("command", ["predict", "chat", "eval", "merge", "export"])
@pytest.mark.slow
def test_a_run_that_lost_its_tokenizer_is_refused_by_every_command(damaged: Path, command: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no words, only special tokens"):
        use(command, damaged, tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_verify_names_a_lost_tokenizer(damaged: Path) -> None:
    with pytest.raises(Unverified, match="has no words, only special tokens"):
        api.verify(damaged)


# Rows that a tokenizer of the right size does not know.


STRANGE = {"text-classification": {"text": "อากาศดี ยินดี", "label": "good"},
           "instruction": {"instruction": "Say it in Thai.", "input": "", "output": "อากาศดี ยินดี"}}  # fmt: skip
KNOWN = {"text-classification": {"text": "a good film 🔥", "label": "bad"},
         "instruction": {"instruction": "Say it in Thai.", "input": "", "output": "I cannot do that"}}  # fmt: skip


@pytest.fixture
def unknowing(with_tokenizer: Callable[..., Path], stand_in: Callable[[str], Path]) -> Callable[[str], Path]:
    """A model with a tokenizer of single letters, in one of the forms, that has an unknown token."""

    def make(form: str) -> Path:
        words = [chr(number) for number in range(33, 127)] + [f"##{chr(number)}" for number in range(33, 127)]
        filled = VOCABULARY | {word: 5 + number for number, word in enumerate(words)}
        entries = len(AutoTokenizer.from_pretrained(stand_in(TYPES[form])))
        filled |= {f"entry{number}": number for number in range(len(filled), entries)}
        return with_tokenizer(form, filled)

    return make


@pytest.mark.parametrize("form", ["wordpiece", "bpe"])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_rows_that_become_the_unknown_token_are_refused_beyond_their_share(
    recipe: Callable[..., Recipe], unknowing: Callable[[str], Path], form: str, share: float, tmp_path: Path
) -> None:
    task = {"wordpiece": "text-classification", "bpe": "instruction"}[form]
    rows = [(STRANGE if number < share * 40 else KNOWN)[task] | {"number": number} for number in range(40)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    data = {"train": str(tmp_path / "rows.jsonl"), "eval_size": 8, "ignore_columns": ["number"]}
    data |= {"prompt": "{instruction}"} if form == "bpe" else {}
    gate = {"overlap": 1.0}
    made = recipe(task=task, model={"name": str(unknowing(form))}, data={**data, "gate": gate})
    if share < 0.1:
        found = api.preview(made)
        assert found is not None
        return
    with pytest.raises(RecipeError, match=r"\d+/32 rows are mostly the unknown token") as caught:
        api.preview(made)
    assert "data.gate.unknown_tokens: 0." in str(caught.value)
    assert "rows.jsonl" in str(caught.value)
    allowed = made.data.gate.model_copy(update={"unknown_tokens": 1.0})
    api.preview(made.model_copy(update={"data": made.data.model_copy(update={"gate": allowed})}))
