"""How long each command of `ftkit` prints nothing, on a terminal and in a pipe, and what it does meanwhile.

    python benchmarks/silence.py --models MODELS --data DATA                    all commands, half an hour
    python benchmarks/silence.py --models MODELS --data DATA --only predict chat --ways pipe

MODELS has the folders minilm-l6, stories260K and babyllama-361, DATA has banking77/, rasbt-instruct/, tinystories/, arc/ and
self-instruct/. Each way has a folder and a cache of its own, and the commands follow on one another: what is slow the first time
is seen. On a terminal something is to move all the time. In a pipe a line that says what is being done, or how far it is, stands
for what follows, and is followed by another within ten seconds. A silence is told by the clock and in processor seconds of the command and its
children: where the second is far less, others had the processor, or the command waited. `where` is the innermost line of ftkit,
and the innermost of all, that was being run when the silence had lasted for a second and more.
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

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tests' hub takes what is pushed

LOOK = 0.05  # seconds
ASK = 1.2  # of silence, from which on the command is asked where it is
CHILD = """
import faulthandler, os, signal
from ftkit import console
stacks = open(os.environ["STACKS"], "w")
signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # what is put back at the end, where it would kill
faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=False)
print("ready", file=stacks, flush=True)
doings, status = open(os.environ["STACKS"] + ".doings", "w"), console.status
def told(message, **options):
    print(message, file=doings, flush=True)
    return status(message, **options)
console.status = told
from ftkit.cli.main import main
main()
"""
STANDS = 11.0  # seconds for which a line in a pipe may stand
HOW_FAR = re.compile(r" [\d,]+(/[\d,]+)?  .*( left|in [\d.]+ (s|min|h).*)$")  # as a bar tells it in a pipe
LABELS = """task: text-classification
model: {{name: {models}/minilm-l6, max_length: 64}}
strategy: {{name: lora, r: 8, target_modules: [query, value]}}
data:
  train: {data}/banking77/train.csv
  eval: {{path: {data}/banking77/test.csv, rows: 300}}
  columns: {{text: text, label: category}}
  drop_overlap: true
training: {{max_steps: 60, per_device_train_batch_size: 16, learning_rate: 1.0e-3, save_strategy: steps, save_steps: 10}}
"""
ANSWERS = """task: instruction
model: {{name: {models}/stories260K, max_length: 256}}
strategy: {{name: lora, r: 8, target_modules: all-linear}}
data: {{train: {data}/rasbt-instruct/instruction-data.json, eval_size: 100}}
training: {{max_steps: 30, per_device_train_batch_size: 8, learning_rate: 1.0e-3}}
"""
TEXTS = """task: language-modeling
model: {{name: {models}/babyllama-361, max_length: 256}}
strategy: full
data: {{train: {data}/tinystories/tinystories_sample.txt, eval_size: 100}}
training: {{max_steps: 20, per_device_train_batch_size: 8, learning_rate: 1.0e-4}}
"""
RECIPES = {"labels.yaml": LABELS, "answers.yaml": ANSWERS, "texts.yaml": TEXTS}


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        words: behind `ftkit`.
        typed: what is typed, or comes from a pipe.
        prompt: on a terminal each line is typed when the screen ends so; else all at the start.
        interrupt: Ctrl-C is pressed when this has been printed so often.
        sends: to the tests' hub.
    """

    name: str
    words: str
    typed: str = ""
    prompt: str = ""
    interrupt: tuple[str, int] = ("", 0)
    sends: bool = False


CASES = [
    Case("help", "--help"),
    Case("recipes", "recipes"),
    Case("schema", "schema"),
    Case("init, packaged", "init lora_distilbert"),
    Case("init, rows", "init {data}/banking77/train.csv --model {models}/minilm-l6 -o rows.yaml"),
    Case("check", "check labels.yaml"),
    Case("check, known", "check labels.yaml"),
    Case("plan, encoder", "plan labels.yaml"),
    Case("plan, decoder", "plan answers.yaml --vram 0.05"),
    Case("preview", "preview answers.yaml --html preview.html"),
    Case("train --smoke", "train {root}/recipes/gpt2_instruction.yaml --smoke -o runs/smoke"),
    Case("train, encoder", "train labels.yaml"),
    Case("train, interrupted", "train labels.yaml -o runs/again", interrupt=(r"step \d\d/60", 1)),
    Case("train --resume", "train labels.yaml -o runs/again --resume"),
    Case("train, decoder", "train answers.yaml"),
    Case("train, texts", "train texts.yaml"),
    Case("train, qlora", "train answers.yaml strategy.name=qlora -o runs/qlora"),
    Case("train, transfer", "train labels.yaml strategy=transfer -o runs/transfer"),
    Case("train, auto", "train labels.yaml strategy=auto training.per_device_train_batch_size=auto -o runs/auto"),
    Case("eval", "eval runs/labels"),
    Case("eval, other rows", "eval runs/labels --data {data}/banking77/test.csv"),
    Case("eval, generating", "eval runs/answers"),
    Case("eval --benchmarks", "eval runs/answers --benchmarks arc_easy --data-dir {data} --limit 20"),
    Case("predict, labels", "predict runs/labels {data}/banking77/test.csv --out said.jsonl"),
    Case("predict, answers", "predict runs/answers {data}/rasbt-instruct/instruction-data.json --out answers.jsonl"),
    Case("predict, typed", "predict runs/labels - --format text", typed="Where is my card?\n\x04"),
    Case("chat", "chat runs/answers --max-new-tokens 20", typed="Name a colour.\n\x04", prompt="> "),
    Case("compare", "compare runs/labels runs/again"),
    Case("compare --strategies", "compare labels.yaml --strategies full,transfer training.max_steps=4 -o runs/both"),
    Case("merge", "merge runs/labels merged"),
    Case("merge, qlora", "merge runs/qlora merged_qlora"),
    Case("export", "export runs/labels exported"),
    Case("export, onnx", "export runs/labels onnx --format onnx"),
    Case("export, gguf", "export runs/answers gguf --format gguf"),
    Case("report", "report runs/labels"),
    Case("verify", "verify runs/labels"),
    Case("synth", "synth {data}/self-instruct/seed_tasks.jsonl --output rows.jsonl --rows 3 --patience 2 --model {models}/stories260K"),
    Case("push", "push runs/labels tester/labels --yes", sends=True),
]  # fmt: skip


@dataclass
class Silence:
    """Seconds by the clock and of the processor without a sign, between two lines; the first may say what is being done."""

    seconds: float
    processor: float
    before: str
    stands: bool
    where: str
    after: str


@dataclass
class Heard:
    """What one command did: its status, how long it took, and its silences, the longest first."""

    status: int
    seconds: float
    processor: float
    silences: list[Silence] = field(default_factory=list)


def main() -> None:
    options = parse_arguments()
    cases = [case for case in CASES if not options.only or any(case.name.startswith(word) for word in options.only)]
    print(f"load of the machine at the start: {os.getloadavg()[0]:.2f} of {os.cpu_count()} processors\n")
    print("| command | way | status | s | processor s | load | silent s | of the processor | behind | stands | where | before |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | --- | --- |")
    too_long = 0
    for case in cases:
        for way in options.ways:
            place = prepare(options, way)
            heard = listen(case, way, place, options)
            too_long += tell(case.name, way, heard, options)
    print(f"\n{too_long} silences of more than {options.longest:g} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("silence"), help="where the runs lie (default: silence)")
    parser.add_argument("--only", nargs="*", default=[], help="commands whose name begins so")
    parser.add_argument("--ways", nargs="*", default=["terminal", "pipe"], choices=["terminal", "pipe"])
    parser.add_argument("--longest", type=float, default=2.0, help="seconds; a silence beyond has a line (default: 2)")
    return parser.parse_args()


def prepare(options: argparse.Namespace, way: str) -> Path:
    """The folder of a way, with its recipes."""
    place: Path = options.work.resolve() / way
    place.mkdir(parents=True, exist_ok=True)
    for name, text in RECIPES.items():
        (place / name).write_text(text.format(models=options.models.resolve(), data=options.data.resolve()))
    return place


def listen(case: Case, way: str, place: Path, options: argparse.Namespace) -> Heard:
    """Run a command and take its silences."""
    stacks = place / "stacks.txt"
    stacks.unlink(missing_ok=True)
    words = [
        word.format(models=options.models.resolve(), data=options.data.resolve(), root=ROOT) for word in case.words.split()
    ]
    variables = {
        "STACKS": str(stacks), "FTKIT_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", "TERM": "xterm-256color",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    with hub_of(case) as address, started([sys.executable, "-c", CHILD, *words], way, case, place, variables | address) as (
        process, stream,
    ):  # fmt: skip
        return Listener(process, stream, stacks, case).heard()


@contextlib.contextmanager
def hub_of(case: Case) -> Iterator[dict[str, str]]:
    """The variables under which the command finds the tests' hub, where it sends."""
    if not case.sends:
        yield {}
        return
    from tests.hub.server import Hub

    with Hub() as hub:
        yield {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_good", "HF_HUB_DISABLE_XET": "1"}


@contextlib.contextmanager
def started(
    command: list[str], way: str, case: Case, place: Path, variables: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command, and what it prints, as a terminal of 120 columns or a pipe gets it."""
    if way == "terminal":
        stream, given = pty.openpty()
        fcntl.ioctl(given, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        source = given
        os.write(stream, b"" if case.prompt else case.typed.encode())
    else:
        stream, given = os.pipe()
        source, sink = os.pipe()
        os.write(sink, case.typed.removesuffix("\x04").encode())
        os.close(sink)
    process = subprocess.Popen(
        command, stdin=source, stdout=given, stderr=given, cwd=place, env=os.environ | variables, start_new_session=True
    )
    for opened in {source, given}:
        os.close(opened)
    try:
        yield process, stream
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(stream)


class Listener:
    """Reads what a command prints until it ends."""

    def __init__(self, process: subprocess.Popen[bytes], stream: int, stacks: Path, case: Case) -> None:
        self.process, self.stream, self.stacks, self.case = process, stream, stacks, case
        self.tree = psutil.Process(process.pid)
        self.began = self.last = time.monotonic()
        self.used = self.used_before = 0.0  # processor seconds: now, and when the silence began
        self.text, self.asked, self.pressed = "", False, False
        self.keys = case.typed.splitlines(keepends=True) if case.prompt and os.isatty(stream) else []
        self.silences: list[Silence] = []

    def heard(self) -> Heard:
        while (read := self.read()) is not None:
            if read:
                self.end_silence(read)
            elif not self.asked and time.monotonic() - self.last > ASK:
                self.ask()
        self.end_silence("(the end)")
        status = self.process.wait()
        silences = sorted(self.silences, key=lambda one: -one.seconds)
        return Heard(status, time.monotonic() - self.began, self.used, silences)

    def read(self) -> str | None:
        """What was printed meanwhile, if anything; None where the command ended."""
        ready, _, _ = select.select([self.stream], [], [], LOOK)
        self.used = max(self.used, self.processor())
        if not ready:
            return ""
        try:
            found = os.read(self.stream, 1 << 16)
        except OSError:  # a terminal whose process has ended
            return None
        return found.decode(errors="replace") if found else None

    def processor(self) -> float:
        """Processor seconds of the command and of its children, those that have ended included."""
        total = 0.0
        with contextlib.suppress(psutil.Error):
            for process in (self.tree, *self.tree.children(recursive=True)):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def ask(self) -> None:
        """Have the command write down where it is; before it can, the signal would end it."""
        if self.stacks.is_file() and self.stacks.read_text().startswith("ready"):
            self.asked = True
            self.process.send_signal(signal.SIGUSR1)

    def end_silence(self, printed: str) -> None:
        now = time.monotonic()
        if now - self.last > ASK:
            where = place_of(self.stacks.read_text()) if self.asked else ""
            before = (lines_of(self.text) or ["(nothing)"])[-1]
            stands = not os.isatty(self.stream) and self.says_a_doing(before) and now - self.last < STANDS
            after = (lines_of(printed) or [""])[0]
            self.silences.append(Silence(now - self.last, self.used - self.used_before, before, stands, where, after))
        self.last, self.used_before, self.asked = now, self.used, False
        self.text += printed
        if self.keys and plain(self.text).endswith(self.case.prompt):
            os.write(self.stream, self.keys.pop(0).encode())
        pattern, times = self.case.interrupt
        if pattern and not self.pressed and len(re.findall(pattern, plain(self.text))) >= times:
            self.pressed = True
            self.process.send_signal(signal.SIGINT)


    def says_a_doing(self, line: str) -> bool:
        doings = Path(f"{self.stacks}.doings").read_text().splitlines()
        return bool(HOW_FAR.search(line)) or any(line == doing or line.startswith(f"{doing}: ") for doing in doings)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def lines_of(text: str) -> list[str]:
    """The lines in what was printed, each time that they changed."""
    return [line.strip() for line in re.split(r"[\r\n]+", plain(text)) if line.strip()]


def place_of(stacks: str) -> str:
    """Where the command was when it was last asked: the innermost line of ftkit, and the innermost of all."""
    frames = re.findall(r'File "(.*?)", line (\d+) in (\S+)', stacks.rpartition("(most recent call first)")[2])
    shown = [f"{Path(file).parent.name}/{Path(file).name}:{line} {name}" for file, line, name in frames]
    own = [words for words, (file, _, _) in zip(shown, frames, strict=True) if f"{ROOT}/ftkit/" in file]
    return "; ".join(dict.fromkeys([*own[:1], *shown[:1]]))


def tell(name: str, way: str, heard: Heard, options: argparse.Namespace) -> int:
    """A line for the longest silence and for each that is too long; how many are."""
    too_long = [silence for silence in heard.silences if silence.seconds > options.longest and not silence.stands]
    head = f"| {name} | {way} | {heard.status} | {heard.seconds:.1f} | {heard.processor:.1f} | {os.getloadavg()[0]:.1f} |"
    for silence in too_long or heard.silences[:1]:
        stands = "yes" if silence.stands else "no"
        cells = [f"{silence.seconds:.1f}", f"{silence.processor:.1f}", silence.before, stands, silence.where, silence.after]
        print(head, " | ".join(cell.replace("|", "\\|") for cell in cells), "|", flush=True)
        head = "| " * 6 + "|"
    if not heard.silences:
        print(head, f"less than {ASK:g} | | | | | |", flush=True)
    return len(too_long)


if __name__ == "__main__":
    main()
