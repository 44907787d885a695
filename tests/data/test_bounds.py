"""A chat template comes with somebody's model: it ends, or is refused in one line, whatever it does."""

import ast
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import ftkit
from ftkit import UserError, check
from ftkit.data import bounds
from ftkit.data.bounds import render_chat_template
from ftkit.data.chat_templates import CHAT_TEMPLATES
from ftkit.recipe.schema import Recipe

CHAT = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
TIMES = "{% for i in range(99999) %}"
LOOPS = f"{TIMES * 3}{'{% endfor %}' * 3}"
DOUBLES = "{% set n = namespace(x='x') %}{% for i in range(90) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
# what is in each, and the bound that it breaks
HOSTILE = {
    "loops in loops": (LOOPS, "s for one chat"),
    "macros that call themselves twice": (
        "{% macro m(n) %}{% if n < 40 %}{{ m(n + 1) }}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(0) }}", "s for one chat"
    ),
    "a power, while it is compiled": ("{{ (10 ** (10 ** 9)) % 7 }}", "s for one chat"),
    "a tuple of itself, whose digest no signal ends": (
        "{% set n = namespace(x=(1, 1)) %}{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",
        "s for one chat",
    ),
    "text that doubles": (DOUBLES, "1 GiB of memory|s for one chat"),
    "text that is repeated": ("{{ 'x' * 10 ** 11 }}", "1 GiB of memory"),
    "a wide field": ("{{ 'x' | center(10 ** 11) }}", "1 GiB of memory"),
    "much text": ("{{ 'x' * 2 ** 25 }}", "characters beyond its own for one chat"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SECONDS", 1)
    monkeypatch.setattr(bounds, "_refused", {})
    monkeypatch.setattr(bounds, "_tried", type(bounds._tried)())


@pytest.fixture
def tokenizer(stand_in: Callable[[str], Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(stand_in("gpt2"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_does_not_end_is_refused(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tokenizer.chat_template, words = HOSTILE[name]
    with pytest.raises(UserError, match=words):
        render_chat_template(tokenizer, CHAT)
    monkeypatch.delattr(bounds, "_rendered")  # what is tried in several forms waits once
    with pytest.raises(UserError, match=words):
        render_chat_template(tokenizer, CHAT, add_generation_prompt=True)


@pytest.mark.parametrize("name", ["loops in loops", "macros that call themselves twice", "text that doubles"])
def test_a_chat_that_comes_later_is_bounded_too(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # a template may be harmless on the first chats, which alone are rendered in a process of their own
    monkeypatch.setattr(bounds, "MEMORY", 1 << 26)
    template, _ = HOSTILE[name]
    tokenizer.chat_template = "{% if messages | length > 2 %}" + template + "{% endif %}"
    for _ in range(bounds.TRIED):
        assert render_chat_template(tokenizer, CHAT) == ""
    with pytest.raises(UserError, match="for one chat"):
        render_chat_template(tokenizer, CHAT + CHAT)


def test_a_good_template_gives_what_transformers_gives(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = CHAT_TEMPLATES["chatml"]
    plain = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert [render_chat_template(tokenizer, CHAT, add_generation_prompt=True) for _ in range(5)] == [plain] * 5


def test_the_timer_ends_with_the_chats(tokenizer: PreTrainedTokenizerBase) -> None:
    # of a library, the signal is somebody else's before and after
    bounds._watch.end()
    before = signal.getsignal(signal.SIGVTALRM)
    tokenizer.chat_template = CHAT_TEMPLATES["chatml"]
    render_chat_template(tokenizer, CHAT)
    assert bounds._watch.armed
    began = time.process_time()
    while bounds._watch.armed and time.process_time() - began < 5:
        pass
    assert not bounds._watch.armed
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == before


def test_a_long_chat_is_no_fault_of_the_template(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "CHARACTERS", 1000)
    tokenizer.chat_template = "{% for one in messages %}{{ one.content }}{% endfor %}"
    for length in (10, 5000, 500_000):
        assert len(render_chat_template(tokenizer, [{"role": "user", "content": "x" * length}])) == length
    tokenizer.chat_template += "{{ 'x' * 1200 }}"
    with pytest.raises(UserError, match="beyond its own"):
        render_chat_template(tokenizer, CHAT)


# no SIGHUP, which whoever starts the tests may have had ignored
@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGXCPU, "more than"), (signal.SIGKILL, "by signal 9"), (signal.SIGUSR1, f"by signal {signal.SIGUSR1.value}")],
)
def test_a_signal_is_called_what_it_is(number: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        bounds._try_apart(lambda: str(os.kill(os.getpid(), number)))


def test_who_ignores_how_children_end_is_told_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    # as under some supervisors; a program may have set that, or the timer's signal, without Python
    tokenizer.chat_template = CHAT_TEMPLATES["chatml"]
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert "hello" not in render_chat_template(tokenizer, CHAT)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert bounds._watch.armed
    bounds._watch.before = None
    bounds._watch.end()
    assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL


def rendered_in_a_worker(pipe: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    try:
        pipe.send(render_chat_template(tokenizer, CHAT + CHAT))
    except UserError as error:
        pipe.send(error.message)


def test_a_worker_of_the_process_is_bounded_too(tokenizer: PreTrainedTokenizerBase) -> None:
    # rows may be encoded in several processes, to which a timer is not handed down
    tokenizer.chat_template = "{% if messages | length > 2 %}" + LOOPS + "{% endif %}"
    for _ in range(bounds.TRIED):
        render_chat_template(tokenizer, CHAT)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    worker = context.Process(target=rendered_in_a_worker, args=(theirs, tokenizer))
    worker.start()
    assert ours.poll(60)
    assert "s for one chat" in ours.recv()
    worker.join(10)


@pytest.mark.parametrize(
    "template",
    [LOOPS, "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", TIMES * 30 + "{% endfor %}" * 30],
    ids=["loops", "recursion", "depth"],
)
def test_check_refuses_such_a_template_in_one_line(recipe: Callable[..., Recipe], tmp_path: Path, template: str) -> None:
    (tmp_path / "chats.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 9
    )
    data: dict[str, Any] = {"train": str(tmp_path / "chats.jsonl"), "chat_template": template, "eval_size": 2}
    with pytest.raises(UserError, match="the chat template") as caught:
        check(recipe(task="instruction", data=data))
    assert "\n" not in str(caught.value)


def test_templates_are_rendered_nowhere_else() -> None:
    # parity renders as whoever serves the model does, behind a rendering within bounds
    calls = [
        file.name
        for file in Path(ftkit.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "apply_chat_template"
    ]
    assert sorted(calls) == ["bounds.py", "parity.py"]


def test_a_process_that_ends_behind_a_chat_ends_as_it_would(tmp_path: Path) -> None:
    """Kind: a timer that outlives its handler ends the process by a signal."""
    script = """
import sys
from ftkit.data.bounds import _watch

class Late:
    def __del__(self):
        sum(range(30_000_000))

with _watch.over():
    pass
sys.late = Late()
raise SystemExit(0)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
