"""The kind: what leaves this machine is not what was said, or what comes back is not what was sent, or is run as code."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, metadata_load
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
from typer.testing import CliRunner

from ftkit import api
from ftkit.cli.main import app
from ftkit.delivery.merge import merge
from ftkit.errors import UserError
from ftkit.hub.runs import run_folder
from ftkit.recipe.load import load_values
from ftkit.run import Run, finished_run, write_json
from ftkit.sharing.contents import copy_scrubbed
from tests.hub.repositories import files_of
from tests.hub.server import Fault, Hub

CARD = b"""---
license: other
license_name: acme-community
license_link: LICENSE
language: [en, de]
pipeline_tag: fill-mask
tags: [poetry, fill-mask, "region:us"]
---
# tiny
"""
ASKED = [{"instruction": "Name a colour.", "input": ""}, {"instruction": "Count to three.", "input": "slowly"}]


@pytest.fixture(scope="module")
def home(module_hub: Hub) -> Iterator[Hub]:
    """The hub, and somebody who is logged in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_good")
        yield module_hub


@pytest.fixture(autouse=True)
def well(module_hub: Hub) -> None:
    module_hub.fault = None
    module_hub.requests.clear()


@pytest.fixture(scope="module")
def run(home: Hub, stand_in: Callable[[str], Path], instructions: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A verified run of an adapter on a base of the hub, in a folder whose path tells of somebody."""
    home.publish("models", "acme/tiny", files_of(stand_in("gpt2")) | {"README.md": CARD})
    place = tmp_path_factory.mktemp("users") / "jane.doe" / "secret-project"
    place.mkdir(parents=True)
    shutil.copy(instructions, place / "instructions.jsonl")
    recipe = load_values({
        "task": "instruction", "model": {"name": "acme/tiny", "max_length": 128},
        "strategy": {"name": "lora", "r": 2, "target_modules": ["c_attn"]},
        "data": {"train": str(place / "instructions.jsonl"), "eval_size": 6},
        "training": {"max_steps": 2, "learning_rate": 1e-2},
        "evaluation": {"generation": {"rows": 2, "max_new_tokens": 4}, "general_text": False},
    })  # fmt: skip
    return Run(api.train(recipe, output_dir=place / "runs" / "answers").folder)


@pytest.fixture(scope="module")
def pushed(home: Hub, run: Run) -> str:
    """The run on the hub, without rows."""
    return push(run, "tester/answers")


def push(run: Run, name: str | None, **options: Any) -> str:
    with api.publication(run, name, **{"unverified": True, **options}) as found:
        found.send()
        return found.repository.name


def files_on(hub: Hub, name: str) -> dict[str, bytes]:
    repository = hub.repositories["models", name]
    return dict(repository.commits[repository.branches["main"]])


def eval_texts(run: Run) -> list[str]:
    rows = [json.loads(line) for line in run.predictions_file.read_text().splitlines()]
    found = [text for row in rows if len(text := row.get("target") or "") > 8]
    assert found
    return found


@pytest.mark.slow
def test_what_was_pushed_comes_back_as_it_was(home: Hub, run: Run, pushed: str) -> None:
    pulled, sent = finished_run(Path(pushed)), files_of(run.model)
    assert {name: content for name, content in files_of(pulled.model).items() if name != "README.md"} == {
        name: content for name, content in sent.items() if name != "README.md"
    }
    assert {name: files_on(home, pushed)[name] for name in sent if name != "README.md"} == {
        name: content for name, content in sent.items() if name != "README.md"
    }
    assert [*api.predict(pushed, ASKED)] == [*api.predict(run.folder, ASKED)]
    assert run.record["published"]["repository"] == pushed
    assert run.record["published"]["commit"] == home.repositories["models", pushed].branches["main"]


@pytest.mark.slow
def test_plain_peft_loads_it_by_its_name(run: Run, pushed: str) -> None:
    tokens = AutoTokenizer.from_pretrained(pushed)("Name a colour.", return_tensors="pt")
    ours, theirs = (AutoPeftModelForCausalLM.from_pretrained(place)(**tokens).logits for place in (run.model, pushed))
    assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_the_card_says_what_the_hub_needs_and_is_taken_by_its_check(home: Hub, run: Run, tmp_path: Path) -> None:
    push(run, "tester/carded")
    assert "POST /api/validate-yaml" in [request.line for request in home.requests]
    (tmp_path / "README.md").write_bytes(files_on(home, "tester/carded")["README.md"])
    found = metadata_load(tmp_path / "README.md")
    assert (found["base_model"], found["base_model_relation"], found["library_name"]) == ("acme/tiny", "adapter", "peft")
    assert (found["license"], found["license_name"], found["language"]) == ("other", "acme-community", ["en", "de"])
    assert found["tags"] == ["ftkit", "instruction", "lora", "poetry"]
    assert found["license_link"].startswith(f"{home.address}/acme/tiny/blob/")
    text = ModelCard.load(tmp_path / "README.md").text
    assert 'from_pretrained("tester/carded"' in text
    assert "### Instruction:" in text  # the prompt of training, though no row of it is shared


@pytest.mark.slow
def test_no_folder_no_user_and_no_row_is_made_public(home: Hub, run: Run, pushed: str) -> None:
    for name, content in files_on(home, pushed).items():
        for private in (b"jane.doe", b"secret-project", str(Path.home()).encode() + b"/", b'"command"', b"pytest-of"):
            assert private not in content, (name, private)
        assert not [text for text in eval_texts(run) if text.encode() in content], name
    assert yaml.safe_load(files_on(home, pushed)["recipe.yaml"])["data"]["train"][0]["path"] == "instructions.jsonl"


@pytest.mark.slow
def test_rows_go_where_they_are_asked_for_and_leave_when_they_are_not(home: Hub, run: Run, tmp_path: Path) -> None:
    with api.publication(run, "tester/rows", with_rows=True, unverified=True) as found:
        assert found.contents.rows == 6
        found.send()
    there = files_on(home, "tester/rows")
    assert eval_texts(run)[0].encode() in there["predictions.jsonl"]
    assert merge("tester/rows", tmp_path / "merged").facts()
    assert "4 trained tensors" in api.verify("tester/rows").facts["tensors"]
    push(run, "tester/rows")
    assert not {"predictions.jsonl", "verification/rows.safetensors"} & files_on(home, "tester/rows").keys()


@pytest.mark.slow
def test_every_command_that_takes_a_run_takes_it_from_the_hub(run: Run, pushed: str, instructions: Path) -> None:
    assert api.evaluate(pushed, data=str(instructions)).metrics == api.evaluate(run.folder, data=str(instructions)).metrics
    assert api.conversation(Run(run_folder(pushed)), max_new_tokens=3, temperature=0.0, seed=1).remembers is False
    assert [entry.name for entry in api.compare([pushed, run.folder]).entries] == [pushed, str(run.folder)]
    assert api.verify(pushed).facts["recipe"] == "as it was when the run began"
    done = CliRunner().invoke(app, ["report", pushed])
    assert done.exit_code == 0
    assert "### Instruction:" in Path(done.stdout.strip().replace("\n", "")).read_text()
    with pytest.raises(UserError, match=r"on the hub without its rows, instructions.jsonl; give some with --data"):
        api.evaluate(pushed)


@pytest.mark.slow
def test_what_broke_off_goes_on_and_sends_nothing_twice(home: Hub, run: Run) -> None:
    home.objects.clear()
    home.fault = Fault("POST .*/commit/", status=400, words="the line is cut", times=1)
    with pytest.raises(UserError, match="tester/again"):
        push(run, "tester/again")
    sent = [request.line for request in home.requests if request.line.startswith("PUT")]
    home.requests.clear()
    push(run, "tester/again")
    assert sent
    assert not [request.line for request in home.requests if request.line.startswith("PUT")]


@pytest.mark.slow
def test_it_is_said_what_will_be_public_before_anything_is_sent(
    home: Hub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(
        app, ["push", str(run.folder), "tester/fresh", "--private", "--unverified"]
    )  # no terminal, no --yes
    assert isinstance(done.exception, UserError)
    assert "nobody is here to be asked" in str(done.exception)
    said = " ".join(done.stderr.split())
    assert f"{home.address}/tester/fresh (private)" in said
    for words in ("adapter_model.safetensors", "licence other", "none; card and report have counts"):
        assert words in said
    assert not [request.line for request in home.requests if request.line.startswith(("PUT", "POST /api/repos"))]


@pytest.mark.slow
def test_what_is_not_to_be_pushed_is_refused(
    home: Hub, run: Run, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = Run(Path(shutil.copytree(run.folder, tmp_path / "changed")))
    weights = changed.model / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    unknown = Run(Path(shutil.copytree(run.folder, tmp_path / "unknown")))
    shutil.rmtree(unknown.verification)
    local = Run(Path(shutil.copytree(run.folder, tmp_path / "local")))
    local.recipe_file.write_text(local.recipe_file.read_text().replace("name: acme/tiny", f"name: {tmp_path}"))
    for refused, name, options, words in (
        (changed, "tester/no", {"unverified": False}, "NOT VERIFIED"),
        (unknown, "tester/no", {"unverified": False}, "was not verified"),
        (local, "tester/no", {}, "a folder that nobody else has"),
        (run, "tester/../no", {}, "OWNER/NAME"),
        (run, pushed, {"private": True}, "is there already, and is public"),
    ):
        with pytest.raises(UserError, match=words):
            push(refused, name, **options)
    monkeypatch.setenv("HF_TOKEN", "")
    for refused in (run, changed):  # which is said before the model is loaded
        with pytest.raises(UserError, match="not logged in to the hub; `hf auth login`"):
            push(refused, None, unverified=False)
    assert ("models", "tester/no") not in home.repositories


@pytest.mark.slow
def test_a_models_revision_is_the_one_that_is_measured(home: Hub, stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    kinds = {"main": "gpt2", "other": "llama"}
    for branch, kind in kinds.items():
        home.publish("models", "acme/two", files_of(stand_in(kind)), branch)
    (tmp_path / "rows.txt").write_text("The cat sat on the mat.\n" * 8)
    asked: dict[str, Any] = {"task": "language-modeling", "data": str(tmp_path / "rows.txt")}
    for branch, kind in kinds.items():
        found = api.evaluate("acme/two", revision=branch, **asked).metrics
        assert found == api.evaluate(stand_in(kind), **asked).metrics
    with pytest.raises(UserError, match="nope"):
        api.evaluate("acme/two", revision="nope", **asked)
    with pytest.raises(UserError, match="--revision"):
        api.evaluate(stand_in("gpt2"), revision="main", **asked)


# What comes from the hub is data. Repositories of these tests are made by hand.

RECIPE: dict[str, Any] = {"task": "instruction", "model": {"name": "acme/tiny"}, "evaluation": {}}
RECORD: dict[str, Any] = {
    "state": "finished",
    "load": {"library": "transformers", "class": "AutoModelForCausalLM", "arguments": {}},
}


def publish(hub: Hub, name: str, recipe: Any, record: Any, **more: bytes) -> str:
    files = {"recipe.yaml": yaml.safe_dump(recipe).encode(), "run.json": json.dumps(record).encode(), "config.json": b"{}"}
    hub.publish("models", name, files | more)
    return name


@pytest.mark.parametrize(
    ("recipe", "record", "adapter"),
    [
        ({"model": {"name": "a/b", "trust_remote_code": True}}, {}, {}),
        ({}, {"load": {"library": "os", "class": "system", "arguments": {}}}, {}),
        ({}, {"load": {"library": "transformers", "class": "Trainer", "arguments": {}}}, {}),
        ({}, {"load": {**RECORD["load"], "arguments": {"attn_implementation": "theirs/kernel"}}}, {}),
        ({}, {}, {"auto_mapping": {"parent_library": "theirs.code", "base_model_class": "X"}}),
    ],
    ids=["trust", "library", "class", "attention", "adapter"],
)
def test_a_run_that_asks_for_code_is_refused(
    hub: Hub, recipe: dict[str, Any], record: dict[str, Any], adapter: dict[str, Any]
) -> None:
    more = {"adapter_config.json": json.dumps(adapter).encode()} if adapter else {}
    name = publish(hub, "someone/run", RECIPE | recipe, RECORD | record, **more)
    with pytest.raises(UserError, match="needs code of its own, which is not run from the hub"):
        run_folder(name)


def test_only_known_files_are_taken_and_no_code(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    strange = {
        "modeling_x.py": b"raise SystemExit", "pytorch_model.bin": b"pickle", ".bashrc": b"", "model/deep/config.json": b"{}",
        "model.safetensors": b"weights", "outputs/other.npz": b"", "checkpoints/x.json": b"{}", "training_args.bin": b"",
    }  # fmt: skip
    wanted = RECIPE | {"evaluation": {"metric_file": "theirs.py"}}
    record = RECORD | {"load": {**RECORD["load"], "arguments": {"trust_remote_code": True, "dtype": "float32"}}}
    folder = run_folder(publish(hub, "someone/run", wanted, record, **strange))
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "recipe.yaml", "run.json", "model/config.json", "model/model.safetensors",
    }  # fmt: skip
    assert "its own metric is code, and is left out" in capsys.readouterr().err
    assert "metric_file" not in (folder / "recipe.yaml").read_text()
    assert json.loads((folder / "run.json").read_text())["load"]["arguments"] == {"dtype": "float32"}
    assert not [request.line for request in hub.requests if "modeling_x" in request.line or ".bin" in request.line]


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"{}"])
def test_what_is_no_record_of_a_run_is_one_line(hub: Hub, content: bytes) -> None:
    name = publish(hub, "someone/run", RECIPE, {}, **{"run.json": content})
    with pytest.raises(UserError, match="its files are not those of a run"):
        run_folder(name)


def test_a_model_that_is_no_run_and_a_name_that_nobody_has(hub: Hub, tmp_path: Path) -> None:
    hub.publish("models", "someone/model", {"config.json": b"{}"})
    with pytest.raises(UserError, match="is no run of ftkit"):
        run_folder("someone/model")
    with pytest.raises(UserError, match="someone/modle"):
        run_folder("someone/modle")
    (tmp_path / "runs").mkdir()
    assert run_folder("runs/misspelt") == Path("runs/misspelt"), "beside folders a folder is meant, and the hub is not asked"
    assert not [request.line for request in hub.requests if "misspelt" in request.line]


def test_a_run_is_taken_at_its_revision_and_from_the_cache_when_the_hub_is_gone(hub: Hub) -> None:
    name = publish(hub, "someone/run", RECIPE, RECORD | {"name": "first"})
    first = hub.repositories["models", name].branches["main"]
    publish(hub, name, RECIPE, RECORD | {"name": "second"})
    assert Run(run_folder(f"{name}@{first}")).record["name"] == "first"
    assert Run(run_folder(name)).record["name"] == "second"
    hub.fault = Fault(status=503)
    assert Run(run_folder(name)).record["name"] == "second"
    with pytest.raises(UserError, match="someone/other"):
        run_folder("someone/other")


def test_where_another_run_lies_is_not_told(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"state": "finished", "rerun": {"of": "/srv/people/anna/runs/a"}, "machine": {}})
    copy_scrubbed(tmp_path / "run.json", tmp_path / "out.json", [], with_rows=True)
    assert json.loads((tmp_path / "out.json").read_text()) == {"state": "finished"}
