"""The kind: a sentence that says more than the figures do. Each state of a verdict, for every task's trivial baseline and for
free text, whose metrics disagree."""

from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import AutoConfig, EvalPrediction

from ftkit.evaluation.evidence import BASELINE, TUNED, intervals
from ftkit.evaluation.measure import Measurement, Outputs, assess
from ftkit.evaluation.verdict import STRICTEST_FIRST, few_valued, headline, verdict
from ftkit.metrics.estimates import estimate_all
from ftkit.recipe.schema import Data, Evaluation, Source
from ftkit.recipe.tasks import HEALTH_METRICS, TASK_SPECS
from ftkit.tasks.base import Task
from ftkit.tasks.table import TASKS
from ftkit.training.baselines import Compared

DATA = Data(train=[Source(path="sample:text")])
CONFIG = AutoConfig.for_model("distilbert")
ROWS = 60


def directions(task: str) -> dict[str, bool | None]:
    return {**TASK_SPECS[task].metrics, **HEALTH_METRICS}


def judged(task: str, tuned: Measurement, references: dict[str, Measurement], *, chosen: bool = False) -> Any:
    models = {TUNED: tuned, **references}
    estimates = estimate_all({name: model.resamplers for name, model in models.items()}, seed=1)
    metric = headline(tuned, directions(task), chosen=chosen)
    return verdict(tuned, references, intervals(estimates, 1), directions(task), metric)


def assessed(
    task: str, made: Task, prediction: EvalPrediction, answers: list[dict[str, Any]] | None = None,
    names: list[str] | None = None,
) -> Measurement:  # fmt: skip
    rows = list(range(len(prediction.label_ids)))
    return assess(Outputs(prediction, answers or [], rows), made, Evaluation(metrics=names), TASK_SPECS[task])


def fitted(task: str, column: str, labels: list[Any], kind: Any) -> Any:
    texts = Value("string") if column == "label" else List(Value("string"))
    other = {"text": ["a"] * len(labels)} if column == "label" else {"tokens": [["a"] * len(tags) for tags in labels]}
    made = TASKS[task](DATA)
    made.fit(Dataset.from_dict({**other, column: labels}, Features({next(iter(other)): texts, column: kind})), CONFIG)
    return made


def classes() -> tuple[Any, EvalPrediction, EvalPrediction]:
    """Two labels, one of them rare: all right, and one label for all."""
    labels = np.array([int(row % 6 == 0) for row in range(ROWS)])
    made = fitted("text-classification", "label", labels.tolist(), ClassLabel(names=["legit", "fraud"]))
    right = np.eye(2)[labels] * 6 - 3
    return made, EvalPrediction(right, labels), EvalPrediction(np.tile([1.0, -1.0], (ROWS, 1)), labels)


def label_sets() -> tuple[Any, EvalPrediction, EvalPrediction]:
    labels = np.array([[1.0, row % 3 == 0, row % 9 == 0] for row in range(ROWS)])
    names = [[name for name, has in zip("abc", row, strict=True) if has] for row in labels]
    made = fitted("text-classification", "label", names, List(Value("string")))
    return made, EvalPrediction(labels * 8 - 4, labels), EvalPrediction(np.tile([2.0, -1.0, -1.0], (ROWS, 1)), labels)


def numbers() -> tuple[Any, EvalPrediction, EvalPrediction]:
    labels = 1200 + 120 * np.sin(np.arange(ROWS)).astype(np.float32)
    made = fitted("text-regression", "label", labels.tolist(), Value("float32"))
    return made, EvalPrediction(labels[:, None] + 1, labels), EvalPrediction(np.ones((ROWS, 1)), labels)


def tags() -> tuple[Any, EvalPrediction, EvalPrediction]:
    named = [["O", "O", "B-PER", "I-PER"] if row % 3 == 0 else ["O"] * 4 for row in range(ROWS)]
    made = fitted("token-classification", "tags", named, List(Value("string")))
    labels = np.array([[made.labels.index(tag) for tag in row] for row in named])
    sure = np.stack([labels.astype(np.float32), np.full(labels.shape, 0.1, np.float32)], -1)
    same = np.stack([np.full(labels.shape, made.labels.index("O"), np.float32), np.full(labels.shape, 1, np.float32)], -1)
    return made, EvalPrediction(sure, labels), EvalPrediction(same, labels)


CASES = {
    "text-classification": (classes, "the majority class (legit)", "one label only, 'legit'"),
    "text-classification, several labels": (label_sets, "the most frequent labels (a)", "the same labels for every row: a"),
    "text-regression": (numbers, "the mean of the training labels (", "one number only, 1"),
    "token-classification": (tags, "the majority tag (O)", "one tag only, 'O'"),
}


def test_every_task_that_labels_has_a_case() -> None:
    labelling = {name for name, task in TASKS.items() if task(DATA).new_head}
    assert {name.partition(",")[0] for name in CASES} == labelling


@pytest.mark.parametrize("case", CASES)
def test_a_model_is_held_against_what_is_trivial(case: str) -> None:
    make, name, said = CASES[case]
    task = case.partition(",")[0]
    made, right, same = make()
    metric = TASK_SPECS[task].default_metrics[0]
    trivial_name, prediction = made.trivial_baseline(right, metric)
    trivial = {trivial_name: assessed(task, made, prediction)}
    better = judged(task, assessed(task, made, right), trivial)
    assert (better.state, better.against) == ("better", trivial_name)
    assert name in better.sentence
    assert better.sentence.startswith("Fine-tuning helped")
    constant = judged(task, assessed(task, made, same), trivial)
    assert constant.state in ("no better", "worse")
    assert constant.sentence.startswith((f"No better than {name}", f"Worse than {name}"))
    assert made.constant(same).startswith(said)
    assert made.constant(right) == ""
    assert judged(task, assessed(task, made, prediction), trivial).state == "no better"


@pytest.mark.parametrize("case", CASES)
def test_outputs_that_are_no_numbers_are_called_that(case: str) -> None:
    make, _, _ = CASES[case]
    task = case.partition(",")[0]
    made, right, _ = make()
    trivial_name, prediction = made.trivial_baseline(right, TASK_SPECS[task].default_metrics[0])
    outputs = right.predictions.copy()
    outputs[1, ..., -1] = np.nan
    broken = EvalPrediction(outputs, right.label_ids)
    found = judged(task, assessed(task, made, broken), {trivial_name: assessed(task, made, prediction)})
    assert found.state == "diverged"
    assert "no number" in found.sentence
    assert "ot sure" not in found.sentence


def test_the_best_of_what_there_is_counts() -> None:
    """A head that the checkpoint brought is a baseline too; where the majority does better, that is the one to beat."""
    made, right, same = classes()
    name, prediction = made.trivial_baseline(right, "accuracy")
    halves = EvalPrediction(np.tile([[1.0, -1.0], [-1.0, 1.0]], (ROWS // 2, 1)), right.label_ids)
    task = "text-classification"
    references = {BASELINE: assessed(task, made, halves), name: assessed(task, made, prediction)}
    tuned = assessed(task, made, same)
    assert judged(task, tuned, {BASELINE: references[BASELINE]}).state == "better"
    assert judged(task, tuned, references).against == name
    near = right.predictions.copy()
    near[0] *= -1
    references[BASELINE] = assessed(task, made, EvalPrediction(near, right.label_ids))
    assert judged(task, assessed(task, made, right), references).against == BASELINE
    assert judged(task, assessed(task, made, right), {}).state == "no baseline"


LEVELS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)  # how much of a model's outputs is right, the rest being drawn


def between(right: EvalPrediction, level: float, seed: int) -> EvalPrediction:
    """Outputs between what is right and what is drawn; where the right ones are tags and how sure, some tags are wrong."""
    draw = np.random.default_rng(seed)
    outputs = np.array(right.predictions, dtype=np.float64)
    wrong = draw.permuted(outputs, axis=0) if outputs.ndim < 3 else np.roll(outputs, 1, axis=1)
    chosen = draw.random(outputs.shape[:1]) < level
    return EvalPrediction(np.where(chosen.reshape(-1, *[1] * (outputs.ndim - 1)), outputs, wrong), right.label_ids)


def with_drawn_head(
    task: str, tuned: Measurement, untrained: Measurement, trivial: dict[str, Measurement]
) -> tuple[Any, str]:
    """The verdict beside an untrained model whose head was drawn at random, and what is added to its sentence."""
    metric = headline(tuned, directions(task), chosen=False)
    beside = Compared(metric, directions(task)[metric] is not False, untrained, trivial, {}, drawn_head=True)
    models = {TUNED: tuned, **beside.references}
    found = intervals(estimate_all({name: model.resamplers for name, model in models.items()}, 1), 1)
    made = verdict(tuned, beside.references, found, directions(task), metric, drawn_head=True)
    return made, beside.note(made.against)


@pytest.mark.parametrize("case", CASES)
def test_a_head_drawn_at_random_makes_a_verdict_stricter_or_leaves_it(case: str) -> None:
    """Swept over how good the untrained and the tuned model are; what the sentence adds is true of each."""
    make, _, _ = CASES[case]
    task = case.partition(",")[0]
    made, right, _ = make()
    trivial_name, prediction = made.trivial_baseline(right, TASK_SPECS[task].default_metrics[0])
    trivial = {trivial_name: assessed(task, made, prediction)}
    models = {level: assessed(task, made, between(right, level, seed)) for seed, level in enumerate(LEVELS)}
    seen = set()
    for untrained in [*models.values(), trivial[trivial_name]]:
        for tuned in models.values():
            alone = judged(task, tuned, trivial)
            found, note = with_drawn_head(task, tuned, untrained, trivial)
            assert STRICTEST_FIRST.index(found.state) <= STRICTEST_FIRST.index(alone.state)
            gap = untrained.metrics[found.metric] - trivial[trivial_name].metrics[found.metric]
            luckier = gap > 0 if directions(task)[found.metric] is not False else gap < 0
            if found.against == BASELINE:
                assert luckier
                assert "yet it is the better of the two here: the " + trivial_name in note
            else:
                assert (found.state, found.sentence) == (alone.state, alone.sentence)
                assert ("is milder" if luckier else "not the better of the two") in note
            if tuned is untrained and found.against == BASELINE:
                assert found.sentence.startswith("No change")
            elif found.state in ("no better", "unsure") and found.against == BASELINE:
                assert "etter than the untrained model: " in found.sentence
            assert found.sentence.count("the untrained model") <= 1
            seen.add((found.against == BASELINE, luckier))
    assert {(True, True), (False, False)} <= seen


def lucky_class() -> tuple[str, Any, EvalPrediction, EvalPrediction]:
    """The drawn head errs in other rows than the tuned model, which errs in the majority's and 9 more."""
    made, right, same = classes()
    drawn, tuned = right.predictions.copy(), same.predictions.copy()
    legit = np.flatnonzero(right.label_ids == 0)
    drawn[legit[:9]] *= -1
    tuned[legit[9:18]] *= -1
    return "text-classification", made, EvalPrediction(drawn, right.label_ids), EvalPrediction(tuned, right.label_ids)


def lucky_number() -> tuple[str, Any, EvalPrediction, EvalPrediction]:
    """The drawn head says of each row a little more than the mean, which is nearer; what was learnt correlates at least."""
    made, right, _ = numbers()
    labels = right.label_ids + 30
    drawn = 1200 + np.random.default_rng(1).normal(15, 1, (ROWS, 1))
    tuned = 1200 + (labels[:, None] - 1230) * 2 + np.random.default_rng(2).normal(30, 20, (ROWS, 1))
    return "text-regression", made, EvalPrediction(drawn, labels), EvalPrediction(tuned, labels)


@pytest.mark.parametrize(
    ("make", "metrics", "milder", "state"),
    [(lucky_class, ["accuracy"], "unsure", "worse"), (lucky_number, ["mse", "pearson"], "partly", "unsure")],
)
def test_luck_of_a_drawn_head_does_not_make_a_verdict_milder(make: Any, metrics: list[str], milder: str, state: str) -> None:
    """Its figure is the better one, but the verdict against it would be milder than that against what is trivial."""
    task, made, drawn, after = make()
    name, prediction = made.trivial_baseline(after, TASK_SPECS[task].default_metrics[0])
    untrained, tuned, trivial = (assessed(task, made, outputs, names=metrics) for outputs in (drawn, after, prediction))
    assert judged(task, tuned, {BASELINE: untrained}).state == milder
    found, note = with_drawn_head(task, tuned, untrained, {name: trivial})
    assert (found.state, found.against) == (state, name)
    assert note.endswith("it is the better of the two, but the verdict against that is milder.")


def test_a_drawn_head_is_judged_alone_where_nothing_is_trivial() -> None:
    before, after = text_run(NOISE, STORY, 3.0), text_run(halved(STORY), STORY, 1.0)
    found, note = with_drawn_head("instruction", after, before, {})
    assert (found.state, found.against) == ("better", BASELINE)
    assert note == " Its head was drawn at random: to be better than that says little."
    assert with_drawn_head("instruction", before, before, {})[0].state == "no change"


def test_what_comes_with_the_checkpoint_needs_no_remark() -> None:
    made, right, same = classes()
    name, prediction = made.trivial_baseline(right, "accuracy")
    one, trivial = assessed("text-classification", made, same), {name: assessed("text-classification", made, prediction)}
    for against in (BASELINE, name):
        assert Compared("accuracy", True, one, trivial, {}, drawn_head=False).note(against) == ""
        assert Compared("accuracy", True, None, trivial, {}, drawn_head=True).note(against) == ""


def test_the_best_constant_is_that_of_the_metric() -> None:
    made = fitted("text-regression", "label", [1.0, 1.0, 1.0, 9.0], Value("float32"))
    prediction = EvalPrediction(np.zeros((2, 1)), np.array([1.0, 9.0]))
    assert made.trivial_baseline(prediction, "mse")[0] == "mean of the training labels (3)"
    assert made.trivial_baseline(prediction, "mae")[0] == "median of the training labels (1)"


STORY = [f"the {colour} {animal} ran over hill number {row}" for row, (colour, animal) in enumerate(
    [(colour, animal) for colour in ("red", "blue", "green", "grey") for animal in ("fox", "dog", "hen", "cat")]
)]  # fmt: skip


def text_run(texts: list[str], targets: list[str], loss: float, task: str = "instruction") -> Measurement:
    """A model that wrote these texts; each row's loss a token is about `loss`."""
    answers = [
        {"generated": text, "target": target, "stopped": bool(text), "entry": entry, "prompt": "Say it"}
        for entry, (text, target) in enumerate(zip(texts, targets, strict=True))
    ]
    sums = np.stack([np.linspace(0.9, 1.1, len(texts)) * loss * 8, np.full(len(texts), 8.0), np.full(len(texts), 40.0)], 1)
    made = TASKS[task](DATA)
    return assessed(task, made, EvalPrediction(sums, np.zeros((len(texts), 1))), answers)


def halved(texts: list[str]) -> list[str]:
    return [" ".join(text.split()[:4]) for text in texts]


NOISE = ["no idea at all what you mean"] * len(STORY)
EMPTY = [""] * len(STORY)
LOOP = ["so it is and so it is and so it is and so it is"] * len(STORY)


@pytest.mark.parametrize(
    ("before", "after", "state", "words"),
    [
        ((NOISE, 3.0), (halved(STORY), 1.0), "better", "better: loss 3.0000 → 1.0000"),
        ((halved(STORY), 1.0), (NOISE, 3.0), "worse", "worse: loss"),
        ((halved(STORY), 1.0), (halved(STORY), 1.0), "no change", "the same: exact_match, loss"),
        ((NOISE, 3.0), (NOISE, 1.0), "partly", "whether rougeL is better cannot be told from 16 rows"),
        ((NOISE, 1.0), (EMPTY, 1.0), "worse", "empty_rate 0.0000 → 1.0000"),
        ((NOISE, 3.0), (EMPTY, 1.0), "worse", "empty_rate"),
        ((NOISE, 3.0), (LOOP, 1.0), "worse", "repetition"),
        ((halved(STORY), 1.0), (STORY, 3.0), "better", "worse: loss 1.0000 → 3.0000"),
    ],
)
def test_free_text_is_judged_by_all_its_metrics(before: Any, after: Any, state: str, words: str) -> None:
    untrained, tuned = text_run(before[0], STORY, before[1]), text_run(after[0], STORY, after[1])
    found = judged("instruction", tuned, {BASELINE: untrained})
    assert (found.state, found.metric) == (state, "rougeL")
    assert words in found.sentence


def test_exact_match_decides_where_the_recipe_or_the_references_say_so() -> None:
    labels = ["yes", "no"] * 8
    free, few = text_run(STORY, STORY, 1.0), text_run(labels, labels, 1.0)
    higher = directions("instruction")
    assert headline(free, higher, chosen=False) == "rougeL"
    assert headline(free, higher, chosen=True) == headline(few, higher, chosen=False) == "exact_match"
    assert headline(text_run(STORY, STORY, 1.0, "summarization"), directions("summarization"), chosen=False) == "rouge1"
    assert few_valued(["Yes", "yes ", "no", "no"])
    assert few_valued([["positive", "good"], ["negative"]] * 3)
    assert not few_valued(STORY)
    assert few_valued(["正面", "负面"] * 3)
    assert not few_valued(["今天天气很好我们去公园散步", "那条河在桥边很早就结冰了"] * 3)  # no word that two spaces part
    assert not few_valued([f"{row}" for row in range(20)])  # short, but no two the same


def test_none_right_before_and_after_is_not_no_change() -> None:
    """Nobody knows from 16 rows that have none right; that other answers were given shows that something changed."""
    before, after = text_run(NOISE, STORY, 2.0), text_run(LOOP[:8] + NOISE[8:], STORY, 2.0)
    found = judged("instruction", after, {BASELINE: before}, chosen=True)
    assert found.metric == "exact_match"
    assert found.state != "no change"
    assert "16 rows" in found.sentence
