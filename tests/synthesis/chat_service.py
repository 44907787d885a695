"""A service that speaks OpenAI's chat protocol over real HTTP: what it answers follows from the prompt, and it can fail."""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERBS = [
    "Name",
    "Explain",
    "Translate",
    "Sort",
    "Count",
    "Rewrite",
    "Compare",
    "Describe",
    "Summarize",
    "Invent",
    "Draw",
    "Check",
]
NOUNS = [
    "rivers",
    "planets",
    "verbs",
    "recipes",
    "numbers",
    "towns",
    "poems",
    "engines",
    "birds",
    "laws",
    "colours",
    "games",
    "storms",
    "letters",
    "tools",
    "maps",
]
SEED_COUNT = 12


def seed_values() -> list[dict[str, Any]]:
    """Seeds in Alpaca form, every second one with an input."""
    draw = random.Random(0)
    return [
        {
            "instruction": f"{draw.choice(VERBS)} {' '.join(draw.sample(NOUNS, 4))} please",
            "input": f"item {number}" if number % 2 else "",
            "output": f"answer {number}",
        }
        for number in range(SEED_COUNT)
    ]


def write_seeds(path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in seed_values()))
    return path


def answer_to(prompt: str) -> str:
    """Two rows that follow from the prompt; some are like others, some have no output."""
    draw = random.Random(prompt)
    rows = []
    for number in (8, 9):
        instruction = f"{draw.choice(VERBS)} {' '.join(draw.sample(NOUNS, 5))}"
        output = "" if draw.random() < 0.15 else f"about {draw.choice(NOUNS)}"
        rows.append(f"{number}. Instruction: {instruction}\nInput: <noinput>\nOutput: {output}")
    return "\n\n".join(rows)


class Service:
    """Use as a context manager; `url` is its address, `requests` the bodies it was sent.

    Attributes:
        plan: what becomes of the next requests, as 500, 429, "hang up", "half" or "junk"; then all are answered.
        dead_after: so many requests are answered, and all after them get a 500.
    """

    def __init__(self, plan: list[int | str] | None = None, *, dead_after: int = 10**9, delay: float = 0) -> None:
        self.plan, self.dead_after, self.delay = plan or [], dead_after, delay
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.retry_after = ""  # sent with every 429
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "Service":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_fate(self, body: dict[str, Any], key: str) -> int | str:
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            if self.plan:
                return self.plan.pop(0)
            return 500 if len(self.requests) > self.dead_after else 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                return

            def do_GET(self) -> None:
                self.reply(200, {"data": []})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fate = service.next_fate(body, self.headers.get("Authorization", ""))
                if service.delay:
                    threading.Event().wait(service.delay)
                if fate == "hang up":
                    self.close_connection = True
                    return
                if fate == 200 or fate == "half":
                    message = {"role": "assistant", "content": answer_to(body["messages"][0]["content"])}
                    self.reply(200, {"choices": [{"message": message, "finish_reason": "stop"}]}, half=fate == "half")
                elif fate == "junk":
                    self.reply(200, {"hello": "world"})
                else:
                    self.reply(int(fate), {"error": {"message": f"no luck: {fate}"}})

            def reply(self, status: int, value: dict[str, Any], *, half: bool = False) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if status == 429 and service.retry_after:
                    self.send_header("Retry-After", service.retry_after)
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if half else data)

        return Handler
