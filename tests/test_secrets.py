"""The kind: a token that is in the environment, an address or a header, and then in a file, a log, a report or an error."""

import json
import os
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe
from ftkit.run import Run, dump_recipe, write_jsonl
from ftkit.secrets import all_without_secrets, without_secrets
from ftkit.sharing.scrub import require_scrubbed

sys.path.insert(0, str(Path(__file__).parent / "cli"))
from command import ftkit, one_line

MARK = "s3cr3tMARK"
VARIABLES = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "COMET_API_KEY", "NEPTUNE_API_TOKEN", "MLFLOW_TRACKING_PASSWORD",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "CLEARML_API_SECRET_KEY", "AZURE_CLIENT_SECRET", "GITHUB_TOKEN", "PGPASSWORD",
)  # fmt: skip
ENVIRONMENT = {name: f"{MARK}-{name.lower()}-7" for name in VARIABLES}
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://user:{MARK}@127.0.0.1:9")


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{MARK}@host/x", f"https:/user:{MARK}@host/x", f"https://{MARK}@host/x.csv", f"see s3://key:{MARK}@bucket/a, and more",
        f"https://host/v1?token={MARK}&a=1", f"http://h/x?a=1&api_key={MARK}", f"http://h/?X-Amz-Signature={MARK}#f", f"http://h/?key={MARK}",
        f"Authorization: Bearer {MARK}", f"{{'authorization': 'Bearer {MARK}', 'a': 1}}", f'"Authorization": "Basic {MARK}="', f"x-api-key: {MARK}",
        f"Bearer {MARK}0123", "hf_" + MARK.replace("3", "x") + "abcdefgh",
    ],
)  # fmt: skip
def test_what_surrounds_a_secret_tells_it(text: str) -> None:
    shown = without_secrets(text)
    assert MARK not in shown
    assert "s" + "xcr" not in shown
    assert "***" in shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/a@b and write to jane@example.org", "monkey=banana", "?page=2&sort=date", "The Bearer of bad news",
        "basic auth is off", "token classification: f1 0.9", "runs/a@main", "key: value", "hf_good", "model.tokenizer=x", "PASSWORD",
    ],
)  # fmt: skip
def test_ordinary_texts_stay(text: str) -> None:
    assert without_secrets(text) == text


# Kind: what is done to every text that is shown, and takes longer than showing it: cells of a long table, a text made for it.
@pytest.mark.parametrize(
    "texts", [["step 3 of 8"] * 20_000, ["?" + "a.token" * 30_000], ["://" * 60_000], ["?" + "sig" * 60_000]]
)
def test_hiding_takes_no_time(texts: list[str]) -> None:
    began = time.process_time()
    for text in texts:
        without_secrets(text)
    assert time.process_time() - began < 2


def test_the_environment_tells_secrets_and_leaves_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    others = {"TOKENIZERS_PARALLELISM": "false", "SSH_AUTH_SOCK": "/run/agent", "HF_TOKEN_PATH": "/root/token", "MONKEY": "banana",
              "PWD": "/work", "MY_TOKEN": "a", "X_KEY": "/etc/key.pem"}  # fmt: skip
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    said = " ".join([*ENVIRONMENT.values(), *others.values()])
    assert without_secrets(said) == " ".join(["***"] * len(ENVIRONMENT) + list(others.values()))
    assert all_without_secrets({"a": [ENVIRONMENT["HF_TOKEN"], 1, None]}) == {"a": ["***", 1, None]}


def kept(folder: Path) -> list[Path]:
    """The files below a folder in which the mark stands, in their names or in what they hold."""
    return [
        file
        for file in folder.rglob("*")
        if MARK in str(file.relative_to(folder)) or (file.is_file() and MARK.encode() in file.read_bytes())
    ]


@pytest.fixture
def planted(recipe: Callable[..., Recipe], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A recipe, and an environment full of secrets whose cache lies in the test's folder."""
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe("lora", training={"max_steps": 1})))
    return tmp_path / "r.yaml", ENVIRONMENT | PROXIES | {
        "FTKIT_CACHE": str(tmp_path / "cache"),
        "HF_DATASETS_CACHE": str(tmp_path / "rows"),
    }


@pytest.mark.slow
def test_no_command_keeps_or_shows_a_secret(planted: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, variables = planted
    write_jsonl(tmp_path / "new.jsonl", [{"text": "a good day"}])
    for words in (
        ["check", file], ["train", file, "-o", "run"], ["eval", "run"], ["predict", "run", "new.jsonl"], ["report", "run"], ["verify", "run"],
        ["plan", file], ["merge", "run", "merged"], ["compare", "run", "run"], ["push", "run", "owner/name"],
    ):  # fmt: skip
        done = ftkit(*words, **variables)
        assert MARK not in done.stdout + done.stderr, words
        refused = words[0] in ("merge", "compare", "push")  # not verified, named twice, no hub
        assert done.returncode == (2 if refused else 0), (words, done.stderr)
    assert kept(tmp_path) == []


# Where an address with a password or a token may be written by mistake.
@pytest.mark.parametrize(
    "override",
    [
        f"data.train=https://user:{MARK}@127.0.0.1:9/rows.csv", f"data.train=https://127.0.0.1:9/rows.csv?token={MARK}", f"model.name=https://{MARK}@127.0.0.1:9/m",
        f"model.tokenizer=https://u:{MARK}@h/x", f"evaluation.metric_file=https://u:{MARK}@h/x.py", f"training.hub_token=hf_{MARK.replace('3', 'x')}abcdefgh{MARK}",
        f"training.deepspeed=https://u:{MARK}@h/x.json", f"training.resume_from_checkpoint=https://u:{MARK}@h/x", f"data.train=s3://u:{MARK}@bucket/x",
        f"evaluation.general_text=https://u:{MARK}@h/x",
    ],
)  # fmt: skip
@pytest.mark.slow
def test_an_address_in_a_recipe_is_refused_without_its_secret(
    override: str, planted: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, variables = planted
    done = ftkit("train", file, override, "-o", "run", **variables)
    assert one_line(done)
    assert MARK not in done.stdout + done.stderr
    assert kept(tmp_path) == []


class Echo(BaseHTTPRequestHandler):
    """A service that says in its refusal what it was sent, as a careless one does."""

    def do_POST(self) -> None:
        body = json.dumps({"error": {"message": f"no such key: {self.headers['Authorization']}"}}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:{port}/v1", f"http://u:{MARK}@127.0.0.1:{{port}}/v1", f"http://127.0.0.1:1/v1?api_key={MARK}"],
)
def test_an_endpoint_tells_no_key(address: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "seeds.jsonl", [{"instruction": f"Name {n} birds", "input": "", "output": "a"} for n in range(9)])
    server = HTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    url = address.format(port=server.server_port)
    done = ftkit(
        "synth",
        "seeds.jsonl",
        "--output",
        "o.jsonl",
        "--rows",
        "2",
        "--endpoint",
        url,
        "--endpoint-model",
        "m",
        **ENVIRONMENT,
    )
    server.shutdown()
    assert one_line(done)
    assert MARK not in done.stdout + done.stderr
    assert kept(tmp_path) == []


def test_a_traceback_tells_none(tmp_path: Path) -> None:
    """What nobody foresaw ends a command in a traceback, and a library's words may hold what it was given."""
    (tmp_path / "sitecustomize.py").write_text(
        "import json\n"
        "def broken(*_, **__):\n"
        f"    raise ZeroDivisionError('https://u:{MARK}@h ' + __import__('os').environ['HF_TOKEN'])\n"
        "import ftkit.cli.recipes as recipes\n"
        "recipes.packaged_recipes = broken\n"
    )
    done = ftkit("recipes", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]), **ENVIRONMENT)
    assert "ZeroDivisionError: https://***@h ***" in done.stderr
    assert MARK not in done.stdout + done.stderr


def test_what_is_pushed_holds_none(recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT["OPENAI_API_KEY"])
    (tmp_path / "README.md").write_text(f"made with {ENVIRONMENT['OPENAI_API_KEY']}")
    with pytest.raises(UserError, match=r"README\.md would make a token or password of the environment public"):
        require_scrubbed([tmp_path / "README.md"], Run(tmp_path / "run"), recipe())
