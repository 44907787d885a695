"""A recipe's mistakes: each with its place, all in one go, with the nearest valid name."""

import copy
from pathlib import Path
from typing import Any

import pytest

from ftkit.errors import RecipeError, UserError
from ftkit.recipe.load import load_recipe, load_values
from ftkit.run import dump_recipe

SOUND = """\
task: text-classification
model: some/model
strategy: {name: lora, r: 4, target_modules: [q_lin]}
data:
  train: rows.csv
training:
  learning_rate: 2e-5
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def mistakes(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text), list(overrides))
    return [str(mistake).replace(str(tmp_path / "r.yaml"), "r.yaml") for mistake in caught.value.mistakes]


def test_a_sound_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SOUND))
    assert recipe.training.learning_rate == 2e-5
    assert recipe.strategy.r == 4
    assert recipe.model.name == "some/model"
    assert recipe.data.train[0].path == "rows.csv"


def test_overrides_are_parsed_as_in_the_file(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, SOUND), ["training.learning_rate=3e-4", "strategy.use_dora=yes", "model.max_length=64"]
    )
    assert (recipe.training.learning_rate, recipe.strategy.use_dora, recipe.model.max_length) == (3e-4, True, 64)


def test_a_strategy_can_be_replaced_by_its_name(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, SOUND), ["strategy=full"]).strategy.name == "full"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  learning_rte: 1", "r.yaml:8:3: unknown key 'training.learning_rte'; did you mean learning_rate?"),
        ("  num_train_epochs: three", "r.yaml:8:3: training.num_train_epochs: must be a number, not 'three'"),
        ("  seed: '7'", "r.yaml:8:3: training.seed: must be a whole number, not '7'; write 7 without quotes"),
        ("  seed: true", "r.yaml:8:3: training.seed: must be a whole number, not true"),
        ("  evaluation_strategy: epoch", "r.yaml:8:3: unknown key 'training.evaluation_strategy'; it is training.eval_strategy"),
        ("  eval_strategy: epochs", "r.yaml:8:3: training.eval_strategy: 'epochs' is not valid; did you mean epoch? valid are no, steps, epoch"),
        ("  eval_steps: 5", "r.yaml:8:3: 'training.eval_steps' has no effect with eval_strategy epoch; add eval_strategy: steps"),
        ("  per_device_train_batch_size: 0", "r.yaml:8:3: training.per_device_train_batch_size: must be at least 1, not 0"),
        ("  warmup_steps: .nan", "r.yaml:8:3: training.warmup_steps: must be a finite number, not nan"),
        ("  max_steps: 99999999999999999999", "r.yaml:8:3: training.max_steps: must be at most 2147483648, not 99999999999999999999"),
        ("  output_dir: x", "r.yaml:8:3: 'training.output_dir' has no effect; say it on the command line: --output-dir"),
        ("  metric_for_best_model: acuracy", "r.yaml:8:3: unknown metric 'acuracy'; did you mean accuracy?"),
        ("trainig: {}", "r.yaml:8:1: unknown key 'trainig'; did you mean training?"),
        ("learning_rate: 1", "r.yaml:8:1: unknown key 'learning_rate'; learning_rate belongs under training"),
        ("lora_alpha: 1", "r.yaml:8:1: unknown key 'lora_alpha'; lora_alpha belongs under strategy, with lora or qlora"),
        ("evaluation: {metrics: [acuracy]}", "r.yaml:8:24: unknown metric 'acuracy'; did you mean accuracy?"),
        ("evaluation: {generation: {rows: 1}}", "r.yaml:8:14: 'evaluation.generation' has no effect with task text-classification"),
        ("task: summarization", "r.yaml:8:1: key 'task' stands twice, first in line 1; remove one of the two"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place(tmp_path: Path, line: str, expected: str) -> None:
    found = mistakes(tmp_path, SOUND + line + "\n")
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("task: text-classification", "task: text-clasification", "r.yaml:1:1: task: 'text-clasification' is not valid; did you mean text-classification?"),
        ("task: text-classification\n", "", "'task' is missing"),
        ("{name: lora, r: 4, target_modules: [q_lin]}", "{name: full, r: 4}", "r.yaml:3:24: 'strategy.r' has no effect with strategy full; it belongs to lora and qlora"),
        ("{name: lora, r: 4, target_modules: [q_lin]}", "{name: lorra}", "r.yaml:3:12: strategy.name: 'lorra' is not valid; did you mean lora?"),
        ("{name: lora, r: 4, target_modules: [q_lin]}", "{r: 4}", "'strategy.name' is missing; one of full, transfer, lora, qlora"),
        ("{name: lora, r: 4, target_modules: [q_lin]}", "{name: lora, rr: 4}", "r.yaml:3:24: unknown key 'strategy.rr'; did you mean r?"),
        ("{name: lora, r: 4, target_modules: [q_lin]}", "{name: lora, task_type: SEQ_CLS}", "'strategy.task_type' has no effect; it follows from the task"),
        ("train: rows.csv", "train: {pth: rows.csv}", "'data.train.path' is missing"),
        ("{name: lora, r: 4, target_modules: [q_lin]}", "[lora]", "strategy"),
        ("{name: lora, r: 4, target_modules: [q_lin]}", "{name: [lora]}", "strategy.name: ['lora'] is not valid"),
        ("task: text-classification", "task: [x]", "task: ['x'] is not valid"),
        ("train: rows.csv", "train: 3", "r.yaml:5:3: data.train: must be a block of keys, not 3"),
        ("  train: rows.csv", "  train: rows.csv\n  columns: {txt: body}", "unknown column role 'txt'; did you mean text?"),
        ("  train: rows.csv", "  train: rows.csv\n  prompt: x", "'data.prompt' has no effect with task text-classification"),
        ("  train: rows.csv", "  train: rows.csv\n  eval: e.csv\n  eval_size: 0.1", "'data.eval_size' has no effect beside data.eval"),
        ("text-classification\nmodel: some/model\nstrategy: {name: lora, r: 4, target_modules: [q_lin]}\ndata:", "summarization\nmodel: some/model\nstrategy: full\ndata:\n  prompt: 'Sum: {documnt}'", "the prompt names '{documnt}'; did you mean document?"),
        ("text-classification\nmodel: some/model\nstrategy: {name: lora, r: 4, target_modules: [q_lin]}\ndata:", "summarization\nmodel: some/model\nstrategy: full\ndata:\n  prompt: Sum it", "the prompt names no column"),
        ("model: some/model", "model: {name: some/model, max_length: 0}", "model.max_length: must be at least 8"),
        ("text-classification\nmodel: some/model\nstrategy: {name: lora, r: 4, target_modules: [q_lin]}", "instruction\nmodel: some/model\nstrategy: transfer", "strategy transfer cannot be with task instruction; no new head is trained"),
    ],
)  # fmt: skip
def test_mistakes_of_structure(tmp_path: Path, before: str, after: str, expected: str) -> None:
    assert before in SOUND
    found = mistakes(tmp_path, SOUND.replace(before, after))
    assert any(expected in line for line in found), found


def test_all_mistakes_come_in_one_go_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = SOUND.replace("r: 4", "rank: 4") + "  lr: 1\n  seed: x\n  seed: y\nfoo: 1\n"
    found = mistakes(tmp_path, text)
    assert [line.split(":")[1] for line in found] == ["3", "8", "9", "10", "11"]


@pytest.mark.parametrize("part", ["train", "eval", "test"])
@pytest.mark.parametrize(
    ("form", "paths"),
    [
        ("one", ["one"]), ({"path": "one"}, ["one"]), (["one"], ["one"]), (["one", {"path": "two"}], ["one", "two"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("key", "value"), [("rows", 200), ("split", "dev"), ("columns.text", "review")])
def test_an_override_reaches_into_a_source_however_it_is_written(
    part: str, form: Any, paths: list[str], key: str, value: Any
) -> None:
    data = {"train": "other", part: form} if part != "test" else {"train": "other", "eval": "other", "test": form}
    recipe = load_values(
        {"task": "text-classification", "model": "m", "strategy": "full", "data": data}, "r", [f"data.{part}.{key}={value}"]
    )
    sources = getattr(recipe.data, part)
    assert [source.path for source in sources] == paths
    for source in sources:
        name, _, inner = key.partition(".")
        assert getattr(source, name) == ({inner: value} if inner else value)


LISTED = {"task": "text-classification", "model": "m", "strategy": "full", "data": {"train": ["one", {"path": "two"}]}}


def test_an_override_reaches_one_source_by_its_number() -> None:
    recipe = load_values(copy.deepcopy(LISTED), "r", ["data.train.1.rows=7", "data.train.0.path=three"])
    assert [(source.path, source.rows) for source in recipe.data.train] == [("three", None), ("two", 7)]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.train.2.rows=7", "no source 2; they are numbered from 0 to 1"), ("data.train.0=x", "say which of its keys"),
        ("data.train.path=x", "2 sources; say which: data.train.0.path"), ("data.train.rowz=7", "did you mean rows"),
        ("data.train.rows.x=7", "must be a whole number"), ("strategy.r.x=7", "r"),
    ],
)  # fmt: skip
def test_an_override_that_fits_no_source_is_said(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_values(copy.deepcopy(LISTED), "r", [override])


def test_a_mistake_in_an_override_names_the_override(tmp_path: Path) -> None:
    assert mistakes(tmp_path, SOUND, "training.learning_rte=3")[0].startswith("training.learning_rte=3: unknown key")


@pytest.mark.parametrize("override", ["training.seed", "=3", "nothing"])
def test_what_is_no_override_is_said(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match="is not an override"):
        load_recipe(write(tmp_path, SOUND), [override])


@pytest.mark.parametrize(
    ("text", "expected"), [("", "empty"), ("# only\n", "empty"), ("- a\n", "mapping"), ("word", "mapping")]
)
def test_a_file_without_keys(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_recipe(write(tmp_path, text))


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, SOUND)
    with pytest.raises(UserError, match=r"no such recipe file; did you mean .*r\.yaml"):
        load_recipe(tmp_path / "rr.yaml")


def test_a_folder_and_bytes_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder"):
        load_recipe(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(UserError, match="not UTF-8"):
        load_recipe(tmp_path / "b.yaml")


@pytest.mark.parametrize(("value", "expected"), [("no", False), ("on", True), ("false", False), ("yes", True)])
def test_the_words_of_yaml_1_1_mean_what_they_say_where_a_boolean_is_due(tmp_path: Path, value: str, expected: bool) -> None:
    recipe = load_recipe(write(tmp_path, SOUND + f"  bf16: {value}\n  save_strategy: no\n"))
    assert recipe.training.bf16 is expected
    assert recipe.training.save_strategy == "no"


def test_a_resolved_recipe_reads_back_to_the_same(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SOUND))
    (tmp_path / "resolved.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "resolved.yaml").model_dump() == recipe.model_dump()
