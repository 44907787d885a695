"""Conversations: the prompt of training, what is remembered, how an answer ends, and the command as it is used."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ftkit import UserError, predict
from ftkit.api import conversation
from ftkit.prediction.chat import Conversation
from ftkit.run import Run

Trained = Callable[[str], Path]


def talk_to(run: Path, *, temperature: float = 0.0, seed: int = 42, max_new_tokens: int | None = None) -> Conversation:
    return conversation(Run(run), max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)


def chat(run: Path, lines: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ftkit", "chat", str(run), *words]
    return subprocess.run(command, input=lines, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["alpaca", "summary", "pairs"])
@pytest.mark.slow
def test_an_answer_is_that_of_predict_piece_by_piece(trained: Trained, kind: str) -> None:
    pieces: list[str] = []
    said = talk_to(trained(kind)).reply("The sea is blue. The sand is white.", pieces.append)
    (known,) = predict(trained(kind), [{"text": "The sea is blue. The sand is white."}])
    assert (said.text, said.stopped) == (known["generated"], known["stopped"])
    assert "".join(pieces).strip() == said.text
    assert len(pieces) > 1 or not said.text


def test_a_chat_sees_the_turns_before_and_the_system_message(trained: Trained) -> None:
    run, talk = trained("chat"), talk_to(trained("chat"))
    talk.system = "Be brief."
    first = talk.reply("What comes after 3?", print)
    second = talk.reply("And then?", print)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What comes after 3?"},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "And then?"},
    ]
    (known,) = predict(run, [{"messages": turns}])
    assert second.text == known["generated"]
    prompt = talk.trained.prompt(talk.trained.encode({"messages": turns}))[0]
    plain = talk.trained.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert prompt == list(plain)
    talk.reset()
    assert talk.turns == []


def test_turns_that_no_longer_fit_are_forgotten_from_the_front(trained: Trained) -> None:
    talk = talk_to(trained("chat"), max_new_tokens=2)
    forgotten = [talk.reply("word " * 25, print).forgotten for _ in range(6)]
    assert forgotten[0] == 0
    assert forgotten[-1] > 0
    assert talk.turns[0]["role"] == "user"
    with pytest.raises(UserError, match="longer than the model was trained on"):
        talk.reply("word " * 500, print)


def test_sampling_follows_the_seed(trained: Trained) -> None:
    said = [
        talk_to(trained("alpaca"), temperature=1.5, seed=seed).reply("Go on with the story.", print).text
        for seed in (1, 1, 2, 3)
    ]
    assert said[0] == said[1]
    assert len(set(said)) > 1


def test_ctrl_c_stops_the_answer_and_not_the_conversation(trained: Trained) -> None:
    talk = talk_to(trained("alpaca"))

    def interrupt(piece: str) -> None:
        if piece.strip():
            raise KeyboardInterrupt

    assert talk.reply("Go on with the story.", interrupt).interrupted
    assert not talk.reply("Go on with the story.", print).interrupted


@pytest.mark.slow
def test_two_piped_lines_get_two_answers(trained: Trained) -> None:
    run = trained("alpaca")
    done = chat(run, "Repeat the text.\n\n/nonsense\n/system x\n/help\nGo on with the story.\n/exit\nNot this.\n")
    known = [row["generated"] for row in predict(run, [{"text": "Repeat the text."}, {"text": "Go on with the story."}])]
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{text}\n" for text in known)
    assert "turns before are not seen" in done.stderr
    assert "no command /nonsense" in done.stderr
    assert "trained on prompts, which have no turns" in done.stderr


@pytest.mark.slow
def test_a_run_that_writes_no_text_is_refused_before_it_is_loaded(trained: Trained) -> None:
    done = chat(trained("labels"), "hello\n")
    assert done.returncode == 2
    assert "writes no text" in done.stderr
    assert "loading /" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_in_the_command_stops_an_answer_only(trained: Trained) -> None:
    words = [sys.executable, "-m", "ftkit", "chat", str(trained("alpaca")), "--temperature", "50", "--max-new-tokens", "100"]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"Go on with the story.\n")
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 1)  # the answer has begun, and is long at such a temperature
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(b"/help\n", timeout=60)
    assert process.returncode == 0, err
    assert b"(stopped)" in err or b"(cut at" in err or out  # it may have ended just before
    assert err.count(b"/exit leaves") == 2
    assert b"Traceback" not in err


def heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
