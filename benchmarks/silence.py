"""How soon each command of `ftkit` gives a sign, and how long it then gives none, in a pipe and on a terminal.

    python benchmarks/silence.py --models MODELS --data DATA                          all commands, half an hour
    python benchmarks/silence.py --models MODELS --data DATA --only predict chat --ways pipe

MODELS has the folders minilm-l6 and stories260K; DATA has banking77/, rasbt-instruct/, arc/ and self-instruct/. Commands
follow on one another, with a folder and a cache for each way, so that what is slow the first time is seen.

On a terminal something moves all the time. In a pipe a line that says what is being done, or how far it is, stands for what
follows, and is followed by another in time (STANDS). A silence for which nothing stands is an open one.
"""

import argparse
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tests' hub takes what is pushed

LOOK = 0.05  # seconds
STANDS = 15.0  # seconds for which a line in a pipe may stand, or as long as all took before it: the longer, the more seldom
HOW_FAR = re.compile(r" [\d,]+(/[\d,]+)?  .*( left|in [\d.]+ (s|min|h).*)$")  # as a bar tells it in a pipe
LABELS = """task: text-classification
model: {{name: {models}/minilm-l6, max_length: 64}}
strategy: {{name: lora, r: 8, target_modules: [query, value]}}
data:
  train: {data}/banking77/train.csv
  eval: {{path: {data}/banking77/test.csv, rows: 200}}
  columns: {{text: text, label: category}}
  drop_overlap: true
training: {{max_steps: 30, per_device_train_batch_size: 16, learning_rate: 1.0e-3, save_strategy: steps, save_steps: 10}}
"""
ANSWERS = """task: instruction
model: {{name: {models}/stories260K, max_length: 256}}
strategy: {{name: lora, r: 8, target_modules: all-linear}}
data: {{train: {data}/rasbt-instruct/instruction-data.json, eval_size: 100}}
training: {{max_steps: 20, per_device_train_batch_size: 8, learning_rate: 1.0e-3}}
"""
RECIPES = {
    "labels.yaml": LABELS,
    "answers.yaml": ANSWERS,
    "few.txt": "Where is my card?\n" * 200,
    "wrong.csv": "body\nA film.\n",
}


MESSAGE = re.compile(r'(?:status|told_beside_bars)\(f?"(.*?)"[,)]')  # of what is being done, in ftkit's own files


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        words: behind `ftkit`.
        typed: what is typed, or comes from a pipe.
        prompt: on a terminal each line is typed when the screen ends so; else all at the start.
        interrupt: Ctrl-C is pressed when this has been printed.
        sends: to the tests' hub.
        asks: the tests' service.
        status: that it ends with.
    """

    name: str
    words: str
    typed: str = ""
    prompt: str = ""
    interrupt: str = ""
    sends: bool = False
    asks: bool = False
    status: int = 0


CASES = [
    Case("help", "--help"),
    Case("recipes", "recipes"),
    Case("schema", "schema"),
    Case("init, packaged", "init lora_distilbert"),
    Case("init, rows", "init {data}/banking77/train.csv --model {models}/minilm-l6 -o rows.yaml"),
    Case("check", "check labels.yaml"),
    Case("check, known", "check labels.yaml"),
    Case("plan", "plan answers.yaml --vram 0.05"),
    Case("preview", "preview answers.yaml --html preview.html"),
    Case("train --smoke", "train {root}/recipes/gpt2_instruction.yaml --smoke -o runs/smoke"),
    Case("train, encoder", "train labels.yaml"),
    Case("train, interrupted", "train labels.yaml -o runs/again", interrupt=r"step \d\d/30", status=130),
    Case("train --resume", "train labels.yaml -o runs/again --resume"),
    Case("train, decoder", "train answers.yaml"),
    Case("eval", "eval runs/labels"),
    Case("eval, generating", "eval runs/answers"),
    Case("eval --benchmarks", "eval runs/answers --benchmarks arc_easy --data-dir {data} --limit 20"),
    Case("predict", "predict runs/labels few.txt --out said.jsonl"),
    Case("predict, wrong file", "predict runs/labels wrong.csv", status=2),
    Case("predict, typed", "predict runs/labels - --format text", typed="Where is my card?\n\x04"),
    Case("predict, generating", "predict runs/answers {data}/rasbt-instruct/instruction-data.json --out answers.jsonl"),
    Case("chat", "chat runs/answers --max-new-tokens 20", typed="Name a colour.\n\x04", prompt="> "),
    Case("compare", "compare runs/labels runs/again"),
    Case("compare --strategies", "compare labels.yaml --strategies full,transfer training.max_steps=4 -o runs/both"),
    Case("merge", "merge runs/labels merged"),
    Case("export", "export runs/labels exported"),
    Case("export, onnx", "export runs/labels onnx --format onnx"),
    Case("report", "report runs/labels"),
    Case("verify", "verify runs/labels"),
    Case("doctor", "doctor"),
    Case("synth, model", "synth {data}/self-instruct/seed_tasks.jsonl --output none.jsonl --rows 1 --patience 2 "
         "--max-new-tokens 60 --model {models}/stories260K", status=2),  # it is too small to make a row
    Case("synth, service", "synth {data}/self-instruct/seed_tasks.jsonl --output made.jsonl --rows 20 --endpoint {service} "
         "--endpoint-model tiny", asks=True),
    Case("push", "push runs/both/full tester/labels --yes", sends=True),
]  # fmt: skip


@dataclass
class Heard:
    """What one command did: its status, how long it took and until its first sign, and its silences.

    Attributes:
        silences: seconds, the line before, and whether that stands for them; the longest first.
    """

    status: int
    seconds: float = 0.0
    first: float = 0.0
    silences: list[tuple[float, str, bool]] = field(default_factory=list)


def main() -> None:
    options = parse_arguments()
    cases = [case for case in CASES if not options.only or any(case.name.startswith(word) for word in options.only)]
    print(f"load of the machine at the start: {os.getloadavg()[0]:.2f} of {os.cpu_count()} processors\n")
    print("| command | way | status | s | first sign, s | longest silence, s | said before it |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    open_ones = 0
    for way in options.ways:
        for case in cases:
            place = prepare(options, way)
            with hub_of(case) as hub, service_of(case) as service:
                heard = listen(case, way, place, command_of(case, options, service), hub)
            open_ones += tell(case, way, heard, options.longest)
    print(f"\n{open_ones} open silences of more than {options.longest:g} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("silence"), help="where the runs lie (default: silence)")
    parser.add_argument("--only", nargs="*", default=[], help="commands whose name begins so")
    parser.add_argument("--ways", nargs="*", default=["pipe", "terminal"], choices=["pipe", "terminal"])
    parser.add_argument("--longest", type=float, default=2.0, help="seconds that an open silence may last (default: 2)")
    return parser.parse_args()


def prepare(options: argparse.Namespace, way: str) -> Path:
    """The folder of a way, with its recipes."""
    place: Path = options.work.resolve() / way
    place.mkdir(parents=True, exist_ok=True)
    for name, text in RECIPES.items():
        (place / name).write_text(text.format(models=options.models.resolve(), data=options.data.resolve()))
    return place


def command_of(case: Case, options: argparse.Namespace, service: str) -> list[str]:
    places = {"models": options.models.resolve(), "data": options.data.resolve(), "root": ROOT, "service": service}
    return [sys.executable, "-m", "ftkit", *(word.format(**places) for word in case.words.split())]


@contextlib.contextmanager
def hub_of(case: Case) -> Iterator[dict[str, str]]:
    """The variables under which the command finds the tests' hub, where it sends."""
    if not case.sends:
        yield {"HF_HUB_OFFLINE": "1"}
        return
    from tests.hub.server import Hub

    with Hub() as hub:
        yield {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_good", "HF_HUB_DISABLE_XET": "1"}


@contextlib.contextmanager
def service_of(case: Case) -> Iterator[str]:
    """The address of the tests' service, where it is asked."""
    if not case.asks:
        yield ""
        return
    sys.path.insert(0, str(ROOT / "tests/synthesis"))
    from chat_service import Service

    with Service() as service:
        yield service.url


def listen(case: Case, way: str, place: Path, command: list[str], hub: dict[str, str]) -> Heard:
    """Run a command and take its silences."""
    variables = {"FTKIT_CACHE": str(place / "cache"), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **hub}
    stream, given, source = opened(way, case)
    process = subprocess.Popen(
        command, stdin=source, stdout=given, stderr=given, cwd=place, env=os.environ | variables, start_new_session=True
    )
    for descriptor in {source, given}:
        os.close(descriptor)
    try:
        return Listener(process, stream, case).heard()
    finally:
        process.kill()
        process.wait()
        os.close(stream)


def opened(way: str, case: Case) -> tuple[int, int, int]:
    """What is read from, what the command prints to, and what it reads: a terminal of 120 columns, or pipes."""
    if way == "terminal":
        stream, given = pty.openpty()
        fcntl.ioctl(given, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.write(stream, b"" if case.prompt else case.typed.encode())
        return stream, given, given
    stream, given = os.pipe()
    source, sink = os.pipe()
    os.write(sink, case.typed.removesuffix("\x04").encode())
    os.close(sink)
    return stream, given, source


class Listener:
    """Reads what a command prints until it ends."""

    def __init__(self, process: "subprocess.Popen[bytes]", stream: int, case: Case) -> None:
        self.process, self.stream, self.case, self.doings = process, stream, case, doings()
        self.began = self.last = time.monotonic()
        self.terminal = os.isatty(stream)
        self.keys = case.typed.splitlines(keepends=True) if case.prompt and self.terminal else []
        self.text, self.pressed = "", False
        self.found = Heard(0)

    def heard(self) -> Heard:
        while (read := self.read()) is not None:
            if read:
                self.end_silence()
                self.text += read
                self.answer()
        self.found.status = self.process.wait()
        self.end_silence()
        self.found.seconds = self.last - self.began
        self.found.silences.sort(reverse=True)
        return self.found

    def read(self) -> str | None:
        """What was printed meanwhile, if anything; None where the command ended."""
        if not select.select([self.stream], [], [], LOOK)[0]:
            return ""
        try:
            return os.read(self.stream, 1 << 16).decode(errors="replace") or None
        except OSError:  # a terminal whose process has ended
            return None

    def end_silence(self) -> None:
        before = (lines_of(self.text) or ["(nothing)"])[-1]
        now = time.monotonic()
        self.found.first = self.found.first or now - self.began
        in_time = now - self.last < max(STANDS, self.last - self.began)
        stands = not self.terminal and in_time and self.says_a_doing(before)
        self.found.silences.append((now - self.last, before, stands))
        self.last = now

    def says_a_doing(self, line: str) -> bool:
        return bool(HOW_FAR.search(line) or self.doings.fullmatch(line.split(": ")[0]))

    def answer(self) -> None:
        """Type, or press Ctrl-C, where the screen says that it is time."""
        shown = plain(self.text)
        if self.keys and shown.endswith(self.case.prompt):
            os.write(self.stream, self.keys.pop(0).encode())
        if self.case.interrupt and not self.pressed and re.search(self.case.interrupt, shown):
            self.pressed = True
            self.process.send_signal(signal.SIGINT)


def doings() -> re.Pattern[str]:
    """What the lines look like that say what is being done."""
    found = {message for file in ROOT.glob("ftkit/**/*.py") for message in MESSAGE.findall(file.read_text())}
    return re.compile("|".join(".+".join(map(re.escape, re.split("{.*?}", message))) for message in sorted(found)))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def lines_of(text: str) -> list[str]:
    """The lines in what was printed, each time that they changed."""
    return [line.strip() for line in re.split(r"[\r\n]+", plain(text)) if line.strip()]


def tell(case: Case, way: str, heard: Heard, longest: float) -> int:
    """A line for the longest silence, and one for each open one that is too long; how many are."""
    too_long = [one for one in heard.silences if one[0] > longest and not one[2]]
    status = f"{heard.status}" if heard.status == case.status else f"{heard.status} (not {case.status})"
    head = f"| {case.name} | {way} | {status} | {heard.seconds:.1f} | {heard.first:.1f} |"
    for seconds, before, stands in dict.fromkeys([heard.silences[0], *too_long]):
        mark = "" if stands or seconds <= longest else " OPEN"
        print(f"{head} {seconds:.1f}{mark} | {before[:60].replace('|', '/')} |", flush=True)
        head = "| | | | | |"
    return len(too_long)


if __name__ == "__main__":
    main()
