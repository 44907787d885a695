"""Rows made from seeds: the prompt and its answers, novelty, services that fail, and going on where a run was cut off."""

import errno
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_service import Service, answer_to, seed_values, write_seeds
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.errors import UserError
from ftkit.synthesis import generators
from ftkit.synthesis.generators import Answer, EndpointGenerator, LocalGenerator, chat_url
from ftkit.synthesis.novelty import Novelty, rouge_l
from ftkit.synthesis.prompt import MALFORMED, Candidate, Row, build_prompt, choose_shots, parse_answer
from ftkit.synthesis.seeds import read_seeds
from ftkit.synthesis.synthesize import REASONS, Result, Settings, synthesize

SEEDS = [Row(f"seed_{n}", v["instruction"], v["input"], v["output"]) for n, v in enumerate(seed_values())]
SETTINGS = Settings(rows=30)


class Fixed:
    """Answers as the service does, without HTTP; raises at a given call."""

    name = "fixed"

    def __init__(
        self, answer: Callable[[str], str] = answer_to, *, stop_at: int = 0, error: type = KeyboardInterrupt
    ) -> None:
        self.answer, self.stop_at, self.error, self.calls = answer, stop_at, error, 0

    def fits(self, prompt: str) -> bool:
        return True

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Answer]:
        self.calls += 1
        if self.calls == self.stop_at:
            raise self.error("out of order")
        return [Answer(self.answer(prompt), cut=False) for prompt in prompts]


def endpoint(service: Service) -> EndpointGenerator:
    return EndpointGenerator(service.url, "double", temperature=0.8, max_new_tokens=64, first_delay=0.01)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_sums(result: Result) -> None:
    """Every row found is kept or rejected, and malformed ones were never parsed."""
    assert set(result.rejected) <= set(REASONS)
    assert result.parsed == result.kept + sum(result.rejected.values()) - result.rejected[MALFORMED]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unbroken") / "rows.jsonl"
    synthesize(SEEDS, Fixed(), path, SETTINGS)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Name a river.\nInput: <noinput>\nOutput: The Rhine.", [("Name a river.", "", "The Rhine.")]),
        ("7. Instruction: A b\nInput: c\nOutput: d\n\n8. Instruction: E\nOutput: f", [("A b", "c", "d"), ("E", "", "f")]),
        ("Sure, here they are:\n\n**7. Instruction:** A\n**Input:** None\n**Output:** d\n###", [("A", "", "d")]),
        (
            "7.\nInstruction: A\nInput:\nx\ny\nOutput:\n1\n2\n\n8.\nInstruction: B\nOutput: z",
            [("A", "x\ny", "1\n2"), ("B", "", "z")],
        ),
        ("A\nOutput: b\nInput: still b\n---\n", [("A", "", "b\nInput: still b")]),
        (
            '[{"instruction": "A", "input": "", "output": "b"}, {"Instruction": "C", "output": 3}]',
            [("A", "", "b"), ("C", "", "3")],
        ),
        (
            '```json\n{"instruction": "A", "output": "b"}\n{"instruction": "C", "output": "d"}\n```',
            [("A", "", "b"), ("C", "", "d")],
        ),
        ('Here:\n{"instruction": "A", "output": "b"},\n{"instruction": "C", "out', [("A", "", "b"), None]),
        ('{"instruction": "A", "output": ["b"]}', [None]),
        ("[1, null]", [None, None]),
        ('{"instruction": "A \\ud83d", "output": "b\u2028c"}', [("A ?", "", "b\u2028c")]),
        ("Once upon a time there was a girl.", [None]),
        ("", [None]),
        ("A\nOutput:", [("A", "", "")]),
    ],
)
def test_answers_are_read_in_the_forms_that_models_write(text: str, expected: list[tuple[str, str, str] | None]) -> None:
    found = parse_answer(text)
    assert [None if c.fault else (c.instruction, c.input, c.output) for c in found] == expected


def test_the_row_in_hand_when_the_tokens_ran_out_is_not_taken() -> None:
    text = "A\nOutput: b\n\n8. Instruction: C\nOutput: d and then"
    assert [candidate.fault for candidate in parse_answer(text, cut=True)] == ["", "too long"]


def test_what_the_prompt_shows_can_be_read_back() -> None:
    prompt = build_prompt(SEEDS[:5])
    body = prompt[prompt.index("1. Instruction:") : prompt.rindex("6. Instruction:")]
    assert parse_answer(body) == [Candidate(row.instruction, row.input, row.output) for row in SEEDS[:5]]


def test_a_quarter_of_the_shots_were_generated_and_short_ones_stand_in_for_those_that_do_not_fit() -> None:
    made = [Row(f"synthetic_{n}", f"Made {n} of four words", "", "x") for n in range(9)]
    shots = choose_shots(SEEDS, made, shots=8, rng=random.Random(1), fits=lambda prompt: True)
    assert sum(row.id.startswith("synthetic") for row in shots) == 2
    assert len({row.id for row in shots}) == 8
    assert all(row in SEEDS for row in choose_shots(SEEDS, [], shots=8, rng=random.Random(1), fits=lambda prompt: True))
    long = [Row(f"long_{n}", "word " * 500, "", "x") for n in range(12)]
    some = choose_shots([*SEEDS, *long], [], shots=6, rng=random.Random(1), fits=lambda prompt: len(prompt) < 2000)
    assert some
    assert not any(row.id.startswith("long") for row in some)


def test_rouge_l_is_that_of_the_package() -> None:
    draw, scorer = random.Random(3), RougeScorer(["rougeL"], use_stemmer=False)
    words = ["a", "the", "Cat's", "dog,", "x1", "ÜBER", "-", "naïve", "42", "translate", "\n", "слово"]
    pairs = [
        (" ".join(draw.choices(words, k=draw.randrange(80))), " ".join(draw.choices(words, k=draw.randrange(20))))
        for _ in range(500)
    ]
    for target, prediction in pairs:
        expected = scorer.score(target, prediction)["rougeL"].fmeasure
        assert rouge_l(target, prediction) == expected
        for threshold in (0.3, 0.7, expected or 1.0):
            assert Novelty(threshold, [target]).is_too_similar(prediction) == (expected >= threshold)


def test_the_same_text_is_a_duplicate_in_any_script() -> None:
    novelty = Novelty(0.7, ["Write a  poem", "写一首关于春天的诗"])
    assert novelty.is_duplicate("write A poem")
    assert novelty.is_duplicate("写一首关于春天的诗")
    assert not novelty.is_too_similar("写一首关于秋天的诗")


def test_both_shapes_of_seeds(tmp_path: Path, shared: Path) -> None:
    paper = read_seeds(str(shared / "data/self-instruct/seed_tasks.jsonl"))
    assert (len(paper), paper[1].id, paper[1].input) == (175, "seed_task_1", "Night : Day :: Right : Left")
    alpaca = read_seeds(str(shared / "data/rasbt-instruct/instruction-data.json"))
    assert (len(alpaca), alpaca[0].id, alpaca[0].input) == (1100, "seed_0", "freind --> friend")
    (tmp_path / "s.csv").write_text("instruction,output\nSay hello to me,Hello\nNothing comes,\n")
    assert read_seeds("s.csv") == [Row("seed_0", "Say hello to me", "", "Hello")]
    (tmp_path / "s.csv").write_text("text,label\na,b\n")
    with pytest.raises(UserError, match="has the columns text, label"):
        read_seeds("s.csv")


@pytest.mark.parametrize(
    ("name", "value"), [("rows", 0), ("shots", 0), ("novelty", 0.0), ("novelty", 1.1), ("temperature", -1.0)]
)
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{name}: {value} is out of range"):
        Settings(**{"rows": 5, name: value})  # type: ignore[arg-type]


def test_every_row_says_where_it_comes_from(tmp_path: Path) -> None:
    with Service() as service:
        result = synthesize(SEEDS, endpoint(service), tmp_path / "rows.jsonl", SETTINGS)
    rows = rows_of(result.output)
    assert len(rows) == result.kept == 30
    assert result.rejected["answer empty"]
    assert_sums(result)
    known = {row.id for row in SEEDS} | {row["id"] for row in rows}
    for row in rows:
        assert (row["source"], row["model"], len(row["seed_rows"]), len(row["prompt_sha256"])) == (
            "synthetic",
            "double",
            6,
            64,
        )
        assert set(row["seed_rows"]) <= known
    assert any(name.startswith("synthetic") for row in rows for name in row["seed_rows"])
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    texts = [row.instruction for row in SEEDS] + [row["instruction"] for row in rows]
    for place, text in enumerate(texts[len(SEEDS) :], len(SEEDS)):
        assert all(scorer.score(other, text)["rougeL"].fmeasure < 0.7 for other in texts[:place])


def test_a_service_that_stumbles_gives_the_same_rows(tmp_path: Path, unbroken: Path) -> None:
    with Service([500, 429, "hang up", "half", 503, 200, "hang up"]) as service:
        generator = endpoint(service)
        result = synthesize(SEEDS, generator, tmp_path / "rows.jsonl", SETTINGS)
        assert len(service.requests) == result.asked + 6
    without = [{k: v for k, v in row.items() if k != "model"} for row in rows_of(unbroken)]
    assert [{k: v for k, v in row.items() if k != "model"} for row in rows_of(result.output)] == without


def test_a_service_that_dies_loses_nothing_and_resuming_gives_the_unbroken_rows(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    with Service(dead_after=12) as service, pytest.raises(UserError, match=r"HTTP 500 \(no luck: 500\), 5 times") as caught:
        synthesize(SEEDS, endpoint(service), output, SETTINGS)
    kept = rows_of(output)
    assert kept
    assert f"{len(kept)} of 30 rows are kept in {output}" in str(caught.value)
    with Service() as service:
        synthesize(SEEDS, endpoint(service), output, SETTINGS, resume=True)
        synthesize(SEEDS, endpoint(service), tmp_path / "whole.jsonl", SETTINGS)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("fate", "expected"), [(401, "set OPENAI_API_KEY"), (404, "--endpoint-model"), ("junk", "no chat completion")]
)
def test_what_trying_again_does_not_mend_is_said_at_once(fate: int | str, expected: str, tmp_path: Path) -> None:
    with Service([fate] * 4) as service, pytest.raises(UserError, match=expected):
        synthesize(SEEDS, endpoint(service), tmp_path / "rows.jsonl", SETTINGS)
    assert len(service.requests) <= 4


def test_nobody_at_the_address_is_said_within_seconds() -> None:
    started = time.monotonic()
    for ask in (lambda g: g.require_alive(), lambda g: g.generate(["x"], [1])):
        with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/v1/chat/completions: connection refused"):
            ask(EndpointGenerator("http://127.0.0.1:9", "m", temperature=0.8, max_new_tokens=8))
    assert time.monotonic() - started < 5


def test_a_service_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "ANSWER_SECONDS", 0.1)
    with Service(delay=1) as service, pytest.raises(UserError, match="no answer in time, 3 times"):
        endpoint(service).generate(["x"], [1])
    assert len(service.requests) == 3


def test_a_service_that_names_its_wait_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(generators.time, "sleep", waits.append)
    with Service([500, 500, 500, 429]) as service:
        service.retry_after = "7"
        assert endpoint(service).generate(["x"], [1])[0].text
    assert waits == [0.01, 0.02, 0.04, 7.0]


def test_a_full_disk_is_said_and_what_fitted_is_gone_on_with(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, real, calls = tmp_path / "rows.jsonl", os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"--output: .* cannot be written: No space left on device; make room .* --resume"):
        synthesize(SEEDS, Fixed(), output, SETTINGS)
    synthesize(SEEDS, Fixed(), output, SETTINGS, resume=True)
    assert output.read_bytes() == unbroken.read_bytes()


def test_the_key_and_the_settings_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with Service() as service:
        endpoint(service).generate(["hello"], [7])
    assert service.keys == ["Bearer sk-test"]
    assert service.requests[0] == {
        "model": "double", "temperature": 0.8, "max_tokens": 64, "seed": 7, "messages": [{"role": "user", "content": "hello"}],
    }  # fmt: skip


def test_addresses_in_their_usual_forms() -> None:
    whole = "http://h:1/v1/chat/completions"
    assert {chat_url(url) for url in ("http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", whole)} == {whole}
    for url in ("localhost:8000", "file:///etc/passwd", "h"):
        with pytest.raises(UserError, match="is no address"):
            chat_url(url)


def test_wherever_it_is_cut_off_resuming_gives_the_unbroken_rows(unbroken: Path, tmp_path: Path) -> None:
    whole, journal = unbroken.read_bytes(), Path(f"{unbroken}.rounds").read_bytes()
    output, rounds = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.rounds"
    for size in [0, 1, *random.Random(5).sample(range(len(whole)), 25), len(whole)]:
        output.write_bytes(whole[:size])
        rounds.write_bytes(journal)
        synthesize(SEEDS, Fixed(), output, SETTINGS, resume=True)
        assert output.read_bytes() == whole
        assert rounds.read_bytes() == journal


def test_rows_that_reached_the_disk_before_their_line_in_the_journal_are_made_again(unbroken: Path, tmp_path: Path) -> None:
    output, rounds = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.rounds"
    lines = Path(f"{unbroken}.rounds").read_bytes().splitlines(keepends=True)
    for end in (b"", lines[4][:20]):  # of a journal whose last line is missing, or torn
        end_of_round_4 = json.loads(lines[4])["bytes"]
        output.write_bytes(unbroken.read_bytes()[:end_of_round_4])
        rounds.write_bytes(b"".join(lines[:4]) + end)
        synthesize(SEEDS, Fixed(), output, SETTINGS, resume=True)
        assert output.read_bytes() == unbroken.read_bytes()


def test_ctrl_c_in_any_round_and_going_on(unbroken: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    for _ in range(9):
        try:
            synthesize(SEEDS, Fixed(stop_at=2), output, SETTINGS, resume=Path(f"{output}.rounds").exists())
        except KeyboardInterrupt:
            continue
        break
    assert output.read_bytes() == unbroken.read_bytes()
    assert not list(tmp_path.glob(".*.lock"))


def test_more_rows_may_be_asked_for_when_going_on(unbroken: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    synthesize(SEEDS, Fixed(), output, Settings(rows=10))
    assert len(rows_of(output)) == 10
    result = synthesize(SEEDS, Fixed(), output, Settings(rows=25), resume=True)
    assert len(rows_of(output)) == result.kept == 25


def test_what_cannot_be_gone_on_with(unbroken: Path, tmp_path: Path) -> None:
    output, rounds = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.rounds"
    cases: list[tuple[bytes, list[Row], Settings, str]] = [
        (unbroken.read_bytes(), SEEDS, Settings(rows=30, shots=4, seed=1), "--shots was 6, is 4, --seed was 42, is 1"),
        (unbroken.read_bytes(), SEEDS[1:], SETTINGS, "SEEDS: the seeds are not those"),
        (unbroken.read_bytes() + b'{"mine": 1}\n', SEEDS, SETTINGS, "was changed since"),
        (unbroken.read_bytes().replace(b'"round": 1,', b'"round": 9,', 1), SEEDS, SETTINGS, "was changed since"),
        (unbroken.read_bytes().replace(b"\n{", b"\n!", 1), SEEDS, SETTINGS, "rows.jsonl:2: no JSON object"),
    ]
    for data, seeds, settings, expected in cases:
        output.write_bytes(data)
        rounds.write_bytes(Path(f"{unbroken}.rounds").read_bytes())
        with pytest.raises(UserError, match=expected):
            synthesize(seeds, Fixed(), output, settings, resume=True)
        assert output.read_bytes() == data
    rounds.write_text("[]\n")
    with pytest.raises(UserError, match="rows"):
        synthesize(SEEDS, Fixed(), output, SETTINGS, resume=True)
    rounds.unlink()
    with pytest.raises(UserError, match="nothing to resume"):
        synthesize(SEEDS, Fixed(), output, SETTINGS, resume=True)
    with pytest.raises(UserError, match="is there already"):
        synthesize(SEEDS, Fixed(), output, SETTINGS)


def test_each_reason_is_counted_and_it_is_given_up_when_nothing_new_comes(tmp_path: Path) -> None:
    seed = SEEDS[0].instruction
    answers = {
        "malformed": "no row at all",
        "too short": "Do it\nOutput: done",
        "too long": f"{'word ' * 151}\nOutput: done",
        "too similar": f"{seed} now\nOutput: done",
        "duplicate": f"{seed.upper()}\nOutput: done",
        "answer empty": "Say something that is quite new\nOutput:",
    }
    for number, (reason, text) in enumerate(answers.items()):
        generator = Fixed(lambda prompt, text=text: text)  # type: ignore[misc]
        result = synthesize(SEEDS, generator, tmp_path / f"{number}.jsonl", Settings(rows=3, patience=2))
        assert result.rejected == {reason: 8}
        assert result.exhausted
        assert generator.calls == 2
        assert_sums(result)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Erkläre", "too short"),
        ("Объясните", "too short"),
        ("请用 一句话说明这条河为什么很早就结冰了", ""),
        ("写诗", "too short"),
    ],
)
def test_words_are_counted_by_script(tmp_path: Path, text: str, reason: str) -> None:
    """One word is one in any script, and a text of a script without spaces is not two words for the space in it."""
    generator = Fixed(lambda prompt: f"{text}\nOutput: done")
    result = synthesize(SEEDS, generator, tmp_path / "rows.jsonl", Settings(rows=1, patience=1))
    assert (reason in result.rejected) if reason else result.kept == 1


def test_patience_counts_rounds_in_a_row_and_anew_for_who_resumes(tmp_path: Path) -> None:
    generator = Fixed()
    generator.answer = lambda prompt: answer_to(prompt) if generator.calls % 3 == 0 else "junk"
    result = synthesize(SEEDS, generator, tmp_path / "rows.jsonl", Settings(rows=20, patience=3))
    assert result.kept == 20
    assert result.asked >= 4 * 9
    given_up = synthesize(SEEDS, generator, tmp_path / "few.jsonl", Settings(rows=20, patience=1))
    generator.calls = 2
    assert given_up.exhausted
    again = synthesize(SEEDS, generator, tmp_path / "few.jsonl", Settings(rows=20, patience=1), resume=True)
    assert again.asked > given_up.asked
    assert again.kept > given_up.kept


def test_a_local_model_in_batches_is_seeded_and_what_it_writes_is_counted(
    stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(stand_in("gpt2"))
    tokenizer = AutoTokenizer.from_pretrained(stand_in("gpt2"))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    generator = LocalGenerator(model, tokenizer, name="tiny", temperature=1.0, max_new_tokens=24)
    prompts = [build_prompt(SEEDS[:1]), "Tell me"]
    first = generator.generate(prompts, [3, 4])
    assert first == generator.generate(prompts, [3, 4])
    assert first != generator.generate(prompts, [5, 4])
    assert len(first) == 2
    assert not generator.fits("word " * 5000)
    result = synthesize(SEEDS, generator, tmp_path / "rows.jsonl", Settings(rows=3, max_new_tokens=24, patience=3))
    assert result.asked >= 12
    assert_sums(result)
    journal = (tmp_path / "rows.jsonl.rounds").read_bytes()
    again = synthesize(SEEDS, generator, tmp_path / "again.jsonl", Settings(rows=3, max_new_tokens=24, patience=3))
    assert Path(f"{again.output}.rounds").read_bytes() == journal


def test_greedy_answers_do_not_depend_on_the_batch(stand_in: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(stand_in("gpt2"))
    tokenizer = AutoTokenizer.from_pretrained(stand_in("gpt2"))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    generator = LocalGenerator(model, tokenizer, name="tiny", temperature=0, max_new_tokens=12)
    prompts = ["Tell me", build_prompt(SEEDS[:1])]
    assert generator.generate(prompts, [0, 0]) == [generator.generate([prompt], [0])[0] for prompt in prompts]


def test_a_context_too_short_for_any_seed_is_said(tmp_path: Path) -> None:
    generator = Fixed()
    generator.fits = lambda prompt: False  # type: ignore[method-assign]
    with pytest.raises(UserError, match="no room for a prompt"):
        synthesize(SEEDS, generator, tmp_path / "rows.jsonl", SETTINGS)
    assert not list(tmp_path.iterdir())


def test_seeds_from_a_file_as_written(tmp_path: Path) -> None:
    assert read_seeds(str(write_seeds(tmp_path / "seeds.jsonl"))) == SEEDS
