"""Benchmarks: the harness's own numbers, from local files, for a run and for a model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit import UserError, benchmark, train
from ftkit.evaluation.benchmark_data import BENCHMARKS, convert_file
from ftkit.evaluation.benchmarks import (
    BenchmarkScore,
    BenchmarkScores,
    Value,
    by_document,
    paired_interval,
    run_harness,
    task_manager,
)
from ftkit.recipe.schema import Recipe
from ftkit.run import write_jsonl

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'ftkit[benchmarks]'")

SIX = ["arc_easy", "arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc1", "truthfulqa_mc2"]
LIMIT = 20
ARC = {
    "question": {"stem": "Which?", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]},
    "answerKey": "B",
}
MOSAIC = {"query": "Question: Which?", "choices": ["a", "b"], "gold": 1}
HUB = {"question": "Which?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}


def loaded(folder: Path) -> tuple[Any, Any]:
    """A model and its tokenizer, loaded by plain transformers."""
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def directly(folder: Path, names: list[str], data: Path, tmp: Path, limit: int) -> dict[str, Any]:
    """The harness by its own front door, on the same local tasks."""
    from lm_eval.models.huggingface import HFLM

    manager, _ = task_manager(names, data, tmp)
    model, tokenizer = loaded(folder)
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)
    found: dict[str, Any] = lm_eval.simple_evaluate(model=wrapped, tasks=names, task_manager=manager, limit=limit)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkScores, dict[str, Any]]:
    shared = Path(__file__).parents[3] / "shared"
    if not (shared / "models" / "stories260K").is_dir():
        pytest.skip("the real data and models (../shared) are not here")
    folder, data = shared / "models" / "stories260K", shared / "data"
    ours = benchmark(folder, SIX, data_dir=data, limit=LIMIT)
    return ours, directly(folder, SIX, data, tmp_path_factory.mktemp("tasks"), LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIX)
def test_the_numbers_are_those_of_the_harness(name: str, both: tuple[BenchmarkScores, dict[str, Any]]) -> None:
    ours, found = both
    scores = [score for score in ours.scores if score.benchmark == name]
    keys = [key for key in found["results"][name] if "," in key and "_stderr" not in key]
    assert [f"{score.metric},none" for score in scores] == keys
    for score in scores:
        assert score.models["model"].value == found["results"][name][f"{score.metric},none"]
        assert score.models["model"].stderr == found["results"][name][f"{score.metric}_stderr,none"]
        documents = by_document(found, name, score.metric, "none")
        assert len(documents) == score.documents == (60 if name == "mmlu" else LIMIT)
        assert np.mean(documents) == pytest.approx(score.models["model"].value, abs=1e-12)


@pytest.mark.slow
def test_what_a_reader_must_know_is_said(both: tuple[BenchmarkScores, dict[str, Any]]) -> None:
    ours, _ = both
    assert ours.parameters == {"model": 260032}
    assert any("mmlu: 3 of 57 subjects" in caveat for caveat in ours.caveats)
    assert any("longer than the model takes" in caveat for caveat in ours.caveats)
    assert any("only the first 20 documents" in caveat for caveat in ours.caveats)
    assert {score.benchmark for score in ours.parts} >= {"mmlu_anatomy", "mmlu_stem", "mmlu_humanities"}


@pytest.mark.slow
def test_only_where_rows_come_from_is_replaced(shared: Path, tmp_path: Path) -> None:
    own = harness_manager(SIX)
    local, _ = task_manager(SIX, shared / "data", tmp_path)
    tasks = [name for name in local.task_index if "task" in (local.task_index[name].cfg or {}) and "mmlu" not in name]
    for name in [*tasks, "mmlu_anatomy"]:
        ours, theirs = dict(local.task_index[name].cfg), dict(own.task_index[name].cfg)
        changed = {key for key in ours | theirs if ours.get(key) != theirs.get(key)}
        assert changed <= {"dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split"}
        evaluated = "test_split" if theirs.get("test_split") else "validation_split"
        assert ours[evaluated] == theirs[evaluated]


def harness_manager(names: list[str]) -> Any:
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    folders = sorted({root / BENCHMARKS[name].tasks for name in names})
    return lm_eval.tasks.TaskManager(include_path=list(folders), include_defaults=False)


@pytest.fixture
def arc(tmp_path: Path) -> Path:
    """24 questions in two forms."""
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "ARC-Challenge-Test.jsonl", [ARC] * 24)
    colours = ("red", "green", "blue", "black", "white", "brown")
    rows = [
        {"query": f"Question: Is {a} or {b} the name of a tree?", "choices": [a, b], "gold": 0}
        for a in colours
        for b in colours
        if a != b
    ]
    write_jsonl(tmp_path / "data" / "arc_easy.jsonl", rows[:24])
    return tmp_path / "data"


@pytest.fixture
def lora_run(recipe: Callable[..., Recipe]) -> Callable[[float], Path]:
    def make(rate: float) -> Path:
        made = recipe(
            "lora",
            task="instruction",
            kind="llama",
            model={"max_length": 256},
            training={"max_steps": 6, "learning_rate": rate},
        )
        return train(made, output_dir="run").folder

    return make


@pytest.mark.slow
def test_a_run_has_baseline_and_tuned(arc: Path, lora_run: Callable[[float], Path], stand_in: Callable[[str], Path]) -> None:
    folder = lora_run(0.05)
    scores = benchmark(folder, ["arc_easy"], data_dir=arc)
    alone = benchmark(stand_in("llama"), ["arc_easy"], data_dir=arc)
    for score, plain in zip(scores.scores, alone.scores, strict=True):
        assert score.models["baseline"] == plain.models["model"]
        assert plain.difference is plain.interval is None
        assert score.difference == score.models["tuned"].value - score.models["baseline"].value
        assert score.interval is not None
        assert score.interval[0] <= score.difference <= score.interval[1]
    assert scores.parameters["tuned"] > scores.parameters["baseline"] == alone.parameters["model"]
    assert any(score.difference for score in scores.scores), "24 questions with two choices, six steps at a high rate"


@pytest.mark.slow
def test_a_whole_model_is_measured_as_it_was_saved(
    arc: Path, recipe: Callable[..., Recipe], stand_in: Callable[[str], Path]
) -> None:
    made = recipe(
        "full", task="instruction", kind="gpt2", model={"max_length": 256}, training={"max_steps": 3, "learning_rate": 0.01}
    )
    folder = train(made, output_dir="run").folder
    scores, tuned = benchmark(folder, ["arc_easy"], data_dir=arc), benchmark(folder / "model", ["arc_easy"], data_dir=arc)
    base = benchmark(stand_in("gpt2"), ["arc_easy"], data_dir=arc)
    for score, after, before in zip(scores.scores, tuned.scores, base.scores, strict=True):
        assert score.models == {"baseline": before.models["model"], "tuned": after.models["model"]}


def test_an_encoder_decoder_can_be_asked(arc: Path, stand_in: Callable[[str], Path]) -> None:
    assert [score.documents for score in benchmark(stand_in("t5"), ["arc_easy"], data_dir=arc, limit=3).scores] == [3, 3]


@pytest.mark.slow
def test_a_run_that_learnt_nothing_differs_by_nothing(arc: Path, lora_run: Callable[[float], Path]) -> None:
    for score in benchmark(lora_run(0.0), ["arc_easy", "arc_challenge"], data_dir=arc, limit=5).scores:
        assert score.models["baseline"] == score.models["tuned"]
        assert score.difference == 0
        low, high = score.interval or (0, 0)
        assert low < 0 < high  # of five documents


def test_generated_answers_are_those_of_the_harness(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    data = tmp_path / "gsm8k"
    data.mkdir()
    rows = [
        {"question": f"Ann has {n} nuts and gets 2. How many?", "answer": f"{n} + 2 = {n + 2}\n#### {n + 2}"}
        for n in range(8)
    ]
    write_jsonl(data / "train.jsonl", rows)
    write_jsonl(data / "test.jsonl", rows[:3])
    with pytest.raises(UserError, match="gsm8k generates up to 256 tokens, and the model takes 256 in all"):
        benchmark(stand_in("llama"), ["gsm8k"], data_dir=tmp_path, limit=2)
    model, tokenizer = loaded(stand_in("llama"))
    model.config.max_position_embeddings = 512
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "longer")
    ours = benchmark(tmp_path / "longer", ["gsm8k"], data_dir=tmp_path, limit=2)
    assert [(score.metric, score.fewshot) for score in ours.scores] == [
        ("exact_match (strict-match)", 5),
        ("exact_match (flexible-extract)", 5),
    ]
    (tmp_path / "tasks").mkdir()
    found = directly(tmp_path / "longer", ["gsm8k"], tmp_path, tmp_path / "tasks", 2)
    assert ours.scores[1].models["model"].value == found["results"]["gsm8k"]["exact_match,flexible-extract"]
    manager, _ = task_manager(["gsm8k"], tmp_path, tmp_path / "tasks")
    samples = run_harness(*loaded(tmp_path / "longer"), manager, ["gsm8k"], 2, 8)["samples"]["gsm8k"]
    parts = ("doc_id", "arguments", "resps", "filter")  # the five examples are drawn with the harness's seed
    assert [[row[part] for part in parts] for row in samples] == [
        [row[part] for part in parts] for row in found["samples"]["gsm8k"]
    ]


@pytest.mark.parametrize("row", [ARC, MOSAIC, HUB], ids=["ai2", "mosaic", "hub"])
def test_arc_in_each_of_its_forms(row: dict[str, Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [row])
    assert list(convert_file(tmp_path / "a.jsonl", BENCHMARKS["arc_easy"])) == [HUB]


@pytest.mark.parametrize(
    "text", ["question,choice0,choice1,choice2,choice3,answer\nWhich?,1,2,3,4,2\n", "Which?,1,2,3,4,C\n"]
)
def test_mmlu_with_and_without_header(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(text)
    expected = {"question": "Which?", "choices": ["1", "2", "3", "4"], "answer": 2}
    assert list(convert_file(tmp_path / "m.csv", BENCHMARKS["mmlu"])) == [expected]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("arc_easy", [ARC, {**ARC, "answerKey": "E"}]),
        ("arc_easy", [MOSAIC, {**MOSAIC, "gold": 2}]),
        ("hellaswag", [{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d"], "label": 0}, {"ctx_a": "b"}]),
        (
            "truthfulqa_mc1",
            [{"question": "Q", "mc1_targets": t, "mc2_targets": {"a": 1}} for t in ({"a": 1, "b": 0}, {"a": 0, "b": 1})],
        ),
        ("gsm8k", [{"question": "Q", "answer": "#### 1"}, {"question": "Q", "answer": "1"}]),
    ],
)
def test_a_row_in_no_known_form_is_named(name: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", rows)
    with pytest.raises(UserError, match=r"f\.jsonl: row 2: not a row of this benchmark"):
        list(convert_file(tmp_path / "f.jsonl", BENCHMARKS[name]))


def test_what_cannot_be_run_is_refused(arc: Path, stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, encoder = stand_in("llama"), stand_in("distilbert")
    cases: list[tuple[Path, list[str], dict[str, Any], str]] = [
        (decoder, ["arc_esay"], {}, "no benchmark 'arc_esay'; did you mean arc_easy"),
        (decoder, [""], {}, "no benchmark is named"),
        (decoder, ["arc_easy"], {"limit": 0}, "--limit: a limit of 0 documents"),
        (decoder, ["hellaswag"], {"data_dir": arc}, "hellaswag needs hellaswag_val.jsonl or hellaswag.jsonl; looked for in"),
        (decoder, ["mmlu"], {"data_dir": arc}, "mmlu needs test/abstract_algebra_test.csv; looked for in"),
        (decoder, ["arc_easy"], {"data_dir": arc / "no"}, "there is no folder"),
        (decoder, ["hellaswag"], {}, "hellaswag: 'Rowan/hellaswag' is no local path, is not in the cache"),
        (decoder, ["mmlu"], {}, "mmlu: 'cais/mmlu' is no local path, is not in the cache"),
        (encoder, ["arc_easy"], {"data_dir": arc}, "is an encoder"),
    ]
    for target, names, options, message in cases:
        with pytest.raises(UserError) as caught:
            benchmark(target, names, **options)
        assert message in str(caught.value)
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as where it is not installed
    with pytest.raises(UserError, match=r"pip install 'ftkit\[benchmarks\]'"):
        benchmark(decoder, ["arc_easy"], data_dir=arc)


def test_a_classifier_is_refused(recipe: Callable[..., Recipe], arc: Path) -> None:
    folder = train(recipe("full", training={"max_steps": 1}), output_dir="run").folder
    with pytest.raises(UserError, match="the model of a text-classification run foretells no text"):
        benchmark(folder, ["arc_easy"], data_dir=arc)


def test_the_interval_is_that_of_the_paired_differences() -> None:
    generator = np.random.default_rng(0)
    baseline = generator.integers(0, 2, 500)
    tuned = np.where(generator.random(500) < 0.2, 1, baseline)
    low, high = paired_interval(list(baseline), list(tuned))
    differences = tuned - baseline
    half = 1.96 * differences.std() / np.sqrt(500)  # normal approximation
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.006)
    assert paired_interval(list(baseline), list(tuned)) == (low, high)


def test_what_is_no_number_is_null_in_json() -> None:
    nan = float("nan")
    score = BenchmarkScore("truthfulqa_mc2", "acc", 3, 0, {"model": Value(nan, nan)}, None, None)
    found = BenchmarkScores("m", {"model": 1}, [score], [], None, 8, {"lm_eval": "0"}).as_json()
    assert found["scores"][0]["models"] == {"model": {"value": None, "stderr": None}}


@pytest.mark.slow
def test_the_command(arc: Path, stand_in: Callable[[str], Path]) -> None:
    words = ["eval", stand_in("llama"), "--benchmarks", "arc_easy", "--data-dir", arc, "--limit", "4"]
    done = ftkit(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert [(score["metric"], score["documents"]) for score in found["scores"]] == [("acc", 4), ("acc_norm", 4)]
    shown = ftkit(*words)
    assert "arc_easy acc_norm" in shown.stdout
    assert "running arc_easy on the model" in shown.stderr
    idle = ftkit("eval", stand_in("llama"), "--limit", "4")
    assert (idle.returncode, idle.stderr) == (
        2,
        "error: --limit: --limit has no effect without --benchmarks; leave it out\n",
    )
    assert "--benchmarks arc_easy" in ftkit("eval", "--help").stdout


def ftkit(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "ftkit", *map(str, words)], capture_output=True, text=True, env=environment)
