"""Nothing that lies in a stranger's run folder is run unless the user says so, and each place of it is named."""

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ftkit import UserError, check, predict, train, verify
from ftkit.cli.main import app
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import Run, write_json
from ftkit.training.checkpoints import seal
from ftkit.trust import code_places, remember_run

MARK = "its code ran"
COMMANDS = {
    "verify": ["verify", "RUN"],
    "predict": ["predict", "RUN", "ROWS"],
    "chat": ["chat", "RUN"],
    "eval": ["eval", "RUN", "--data", "ROWS"],
    "benchmarks": ["eval", "RUN", "--benchmarks", "hellaswag"],
    "rerun": ["rerun", "RUN", "--check"],
    "export": ["export", "RUN", "DIR"],
    "merge": ["merge", "RUN", "DIR"],
    "push": ["push", "RUN", "owner/name", "--yes", "--unverified"],
}
Plant = Callable[[Path, str], None]


@pytest.fixture(scope="module")
def made(stand_in: Callable[[str], Path], instructions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an adapter, with a checkpoint; and beside it `home`, the cache of who trained it."""
    place = tmp_path_factory.mktemp("trust")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_CACHE", str(place / "home"))
        values = {
            "task": "instruction",
            "model": {"name": str(stand_in("gpt2")), "max_length": 256},
            "strategy": {"name": "lora", "r": 2, "target_modules": ["c_attn"]},
            "data": {"train": str(instructions), "eval_size": 4},
            "training": {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 2},
            "evaluation": {
                "verify": False,
                "baseline": False,
                "general_text": False,
                "generation": {"rows": 2, "max_new_tokens": 2},
            },
        }
        run = Run(train(load_values(values), output_dir=place / "run").folder)
    run.verification.mkdir()  # what verifying would need; it takes a process of seconds, and is only to be refused
    write_json(run.verification / "facts.json", {"load": run.record["load"], "before": {}, "after": {}})
    return place


@pytest.fixture
def stranger(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as it comes to somebody else, who has a cache of their own, and where `planted` would be found by name."""
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "elsewhere"))
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/planted.py").write_text(code_that_marks(tmp_path), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"), prepend=":")
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run/seal.json").unlink()  # who changes files changes that, too
    return tmp_path / "run"


def mark(folder: Path) -> Path:
    return folder.parent / "mark"


def code_that_marks(place: Path) -> str:
    return (
        f"open({str(place / 'mark')!r}, 'w').write({MARK!r})\n"
        "from transformers import GPT2Tokenizer\n"
        "class Own(GPT2Tokenizer): pass\n"
        "def compute(predictions, references): return {'own': 1.0}\n"
    )


def change(file: Path, *keys: str, to: Any) -> None:
    """Set what stands under the keys of a file of JSON or YAML."""
    is_yaml = file.suffix == ".yaml"
    text = file.read_text(encoding="utf-8") if file.is_file() else "{}"
    values = found = yaml.safe_load(text) if is_yaml else json.loads(text)
    for key in keys[:-1]:
        found = found.setdefault(key, {})
    found[keys[-1]] = to
    file.write_text(yaml.safe_dump(values) if is_yaml else json.dumps(values), encoding="utf-8")


def own_metric(run: Path, code: str) -> None:
    (run / "metric.py").write_text(code, encoding="utf-8")
    change(run / "recipe.yaml", "evaluation", "metric_file", to=str(run / "metric.py"))


def own_tokenizer(run: Path, code: str) -> None:
    (run / "model/own.py").write_text(code, encoding="utf-8")
    change(run / "model/tokenizer_config.json", "auto_map", to={"AutoTokenizer": ["own.Own", "own.Own"]})
    change(run / "model/tokenizer_config.json", "tokenizer_class", to="Own")


def by_recipe(run: Path, code: str) -> None:
    own_tokenizer(run, code)
    change(run / "recipe.yaml", "model", "trust_remote_code", to=True)


def by_record(run: Path, code: str) -> None:
    own_tokenizer(run, code)
    change(run / "run.json", "load", "arguments", "trust_remote_code", to=True)


def by_record_alone(run: Path, code: str) -> None:
    by_record(run, code)
    (run / "recipe.yaml").unlink()


def by_facts(run: Path, code: str) -> None:
    own_tokenizer(run, code)
    change(run / "verification/facts.json", "load", "arguments", "trust_remote_code", to=True)


def own_generation(run: Path, code: str) -> None:
    (run / "model/custom_generate").mkdir()
    (run / "model/custom_generate/generate.py").write_text(code, encoding="utf-8")
    change(run / "recipe.yaml", "model", "trust_remote_code", to=True)


def own_base(run: Path, code: str) -> None:
    base = run / "base"
    shutil.copytree(yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["model"]["name"], base)
    (base / "own.py").write_text(code, encoding="utf-8")
    change(base / "config.json", "auto_map", to={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    change(base / "config.json", "model_type", to="own")
    change(run / "recipe.yaml", "model", "name", to=str(base))
    change(run / "recipe.yaml", "model", "trust_remote_code", to=True)


def setting(file: str, *keys: str, to: Any) -> Plant:
    return lambda run, code: change(run / file, *keys, to=to)


KERNEL = {"text_config": {"attn_implementation": "somebody/kernel"}}
# What the user can permit, by what is planted: the words that name the place.
PERMITTED: dict[str, tuple[Plant, str]] = {
    "metric": (own_metric, "recipe.yaml: evaluation.metric_file (/"),
    "recipe": (by_recipe, "recipe.yaml: model.trust_remote_code (own.py)"),
    "tokenizer": (by_recipe, "model/tokenizer_config.json: auto_map (own.py)"),
    "record": (by_record, "run.json: load.arguments.trust_remote_code (own.py)"),
    "record alone": (by_record_alone, "run.json: load.arguments.trust_remote_code (own.py)"),
    "facts": (by_facts, "verification/facts.json: load.arguments.trust_remote_code (own.py)"),
    "generation": (own_generation, "model/custom_generate/generate.py (generate.py)"),
    "base": (own_base, "recipe.yaml: model.trust_remote_code (own.py)"),
}
# What is never taken: ftkit writes no such thing.
REFUSED: dict[str, tuple[Plant, str]] = {
    "library": (setting("run.json", "load", "library", to="planted"), "run.json: load.class 'planted."),
    "library of the check": (
        setting("verification/facts.json", "load", "library", to="planted"), "facts.json: load.class 'planted."
    ),
    "class": (setting("run.json", "load", "class", to="Own"), "run.json: load.class 'peft.Own'"),
    "argument": (setting("run.json", "load", "arguments", "custom_generate", to="x"), "load.arguments.custom_generate"),
    "adapter": (
        setting("model/adapter_config.json", "auto_mapping", to={"parent_library": "planted", "base_model_class": "Own"}),
        "model/adapter_config.json: auto_mapping.parent_library 'planted'",
    ),
    "megatron": (
        setting("model/adapter_config.json", "megatron_config", to={"core": "planted"}), "adapter_config.json: megatron_core"
    ),
    "prompt tokenizer": (
        setting("model/adapter_config.json", "tokenizer_kwargs", to={"trust_remote_code": True}), "tokenizer_kwargs"
    ),
    "kernel": (setting("model/config.json", "text_config", to=KERNEL["text_config"]), "attn_implementation 'somebody/kernel'"),
}  # fmt: skip


def outcome(command: str, run: Path, rows: Path, *words: str) -> str:
    """What a command says, with its error; whether it was one of the user's errors is asserted by who calls it."""
    names = {"RUN": str(run), "ROWS": str(rows), "DIR": str(run.parent / "delivered")}
    result = CliRunner().invoke(app, [*(names.get(word, word) for word in COMMANDS[command]), *words], input="hello\n")
    assert result.exception is None or isinstance(result.exception, UserError | SystemExit), result.exception
    return f"{result.output}{result.exception if isinstance(result.exception, UserError) else ''}"


@pytest.mark.parametrize("place", [*PERMITTED, *REFUSED])
def test_no_command_runs_what_lies_in_a_folder(stranger: Path, instructions: Path, place: str) -> None:
    # each place where code can lie x each command that loads a run: named, and not run; a metric is run by eval alone
    plant, words = (PERMITTED | REFUSED)[place]
    plant(stranger, code_that_marks(stranger.parent))
    for command in ["eval", "rerun"] if place == "metric" else COMMANDS:
        if place == "record alone" and command != "verify":  # to the others it is no run, or one with no recipe
            assert outcome(command, stranger, instructions)
        else:
            said = outcome(command, stranger, instructions)
            assert words in said, (command, said)
        assert not mark(stranger).exists(), command


@pytest.mark.parametrize("place", REFUSED)
def test_what_is_never_taken_is_not_taken_with_leave_either(stranger: Path, instructions: Path, place: str) -> None:
    plant, words = REFUSED[place]
    plant(stranger, code_that_marks(stranger.parent))
    assert words in outcome("verify", stranger, instructions, "--trust-code")
    assert not mark(stranger).exists()


def test_all_places_of_a_folder_are_named_in_one_line(stranger: Path, instructions: Path) -> None:
    code = code_that_marks(stranger.parent)
    for plant, _ in [PERMITTED[name] for name in ("metric", "recipe", "record", "facts", "generation")]:
        plant(stranger, code)
    said = outcome("verify", stranger, instructions)
    for name in ("metric", "recipe", "tokenizer", "record", "facts"):
        assert PERMITTED[name][1].rpartition(" (")[0] in said
    for plant, _ in REFUSED.values():
        plant(stranger, code)
    said = outcome("verify", stranger, instructions)
    for words in ("'planted.", "auto_mapping", "somebody/kernel", "evaluation.metric_file", "auto_map", "custom_generate"):
        assert words in said
    assert not mark(stranger).exists()


@pytest.mark.parametrize(("command", "place"), [("eval", "metric"), ("predict", "recipe"), ("verify", "record")])
def test_it_runs_where_the_user_says_so(stranger: Path, instructions: Path, command: str, place: str) -> None:
    # what is planted above is code that would run: with leave it does, and the line still names it
    PERMITTED[place][0](stranger, code_that_marks(stranger.parent))
    shutil.rmtree(stranger / "verification")  # of prompts alone nothing is verified in a process of seconds
    said = outcome(command, stranger, instructions, "--trust-code")
    assert "its code is run as you say" in " ".join(said.split())
    assert mark(stranger).read_text() == MARK


def test_own_code_is_known_until_it_changes(stranger: Path, instructions: Path) -> None:
    own_metric(stranger, code_that_marks(stranger.parent))
    remember_run(stranger)
    assert "made elsewhere" not in outcome("eval", stranger, instructions)
    assert mark(stranger).is_file()
    mark(stranger).unlink()
    own_metric(stranger, code_that_marks(stranger.parent) + "# changed\n")
    assert "evaluation.metric_file" in outcome("eval", stranger, instructions)
    assert not mark(stranger).exists()


def test_leave_for_code_does_not_hold_for_another_base(stranger: Path, instructions: Path) -> None:
    # of an adapter, the base that its config names is loaded by peft: it is part of what was permitted
    by_recipe(stranger, code_that_marks(stranger.parent))
    remember_run(stranger)
    change(stranger / "model/adapter_config.json", "base_model_name_or_path", to=str(stranger / "another"))
    assert "recipe.yaml: model.trust_remote_code" in outcome("verify", stranger, instructions)
    assert not mark(stranger).exists()


def test_python_asks_as_the_commands_do(stranger: Path, instructions: Path) -> None:
    by_recipe(stranger, code_that_marks(stranger.parent))
    with pytest.raises(UserError, match="would run code"):
        next(iter(predict(stranger, [{"instruction": "Say something."}])))
    with pytest.raises(UserError, match="would run code"):
        verify(stranger)
    assert not mark(stranger).exists()


def test_a_run_made_elsewhere_says_so(
    stranger: Path, made: Path, instructions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "was made elsewhere," in " ".join(outcome("predict", stranger, instructions).split())
    monkeypatch.setenv("FTKIT_CACHE", str(made / "home"))
    assert "made elsewhere" not in " ".join(
        outcome("predict", stranger, instructions).split()
    )  # a copy of it is still one's own


class Planted:
    """What leaves the mark when it is unpickled."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (code_that_marks(self.run.parent),)


def test_weights_that_need_unpickling_are_not_unpickled(stranger: Path, instructions: Path) -> None:
    (stranger / "model/adapter_model.safetensors").unlink()
    for name in ("adapter_model.bin", "pytorch_model.bin", "training_args.bin"):
        (stranger / "model" / name).write_bytes(pickle.dumps(Planted(stranger)))
    result = CliRunner().invoke(app, ["predict", str(stranger), str(instructions)])
    assert result.exit_code != 0
    assert not mark(stranger).exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_the_state_of_a_checkpoint_is_not_unpickled(stranger: Path, name: str) -> None:
    run = Run(stranger)
    checkpoint = run.checkpoints / "checkpoint-1"
    shutil.rmtree(run.checkpoints / "checkpoint-2", ignore_errors=True)
    run.update(state="interrupted")
    assert (checkpoint / name).is_file()
    for file in (name, "training_args.bin"):
        (checkpoint / file).write_bytes(pickle.dumps(Planted(stranger)))
    seal(checkpoint)
    recipe = load_values(yaml.safe_load(run.recipe_file.read_text(encoding="utf-8")))
    with pytest.raises(UserError, match="checkpoint-1 holds something else"):
        train(recipe, output_dir=stranger, resume=True)
    assert not mark(stranger).exists()


@pytest.mark.parametrize("command", [train, check])
def test_train_and_check_name_the_code_of_a_recipe_before_it_runs(
    recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Callable[..., Any]
) -> None:
    file = tmp_path / "own.py"
    file.write_text("raise ValueError('it is run')\n", encoding="utf-8")
    with pytest.raises(UserError, match="it is run"):
        command(recipe(evaluation={"metric_file": str(file)}))
    said = " ".join(capsys.readouterr().err.split())
    assert f"the recipe names code, which is run: evaluation.metric_file ({file})" in said


@pytest.mark.parametrize("kind", ["gpt2", "own"])
def test_a_stranger_s_model_runs_no_code_unless_the_recipe_says_so(
    recipe: Callable[..., Recipe],
    stand_in: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    # of a type that transformers knows, and of one that only the model's own code knows
    base = tmp_path / "base"
    shutil.copytree(stand_in("gpt2"), base)
    (base / "own.py").write_text(code_that_marks(tmp_path), encoding="utf-8")
    change(base / "config.json", "auto_map", to={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    change(base / "config.json", "model_type", to=kind)
    change(base / "tokenizer_config.json", "auto_map", to={"AutoTokenizer": ["own.Own", "own.Own"]})
    with suppress(UserError):
        check(recipe(task="instruction", model={"name": str(base)}))
    assert not (tmp_path / "mark").exists()
    with suppress(UserError, AttributeError):
        check(recipe(task="instruction", model={"name": str(base), "trust_remote_code": True}))
    assert "model.trust_remote_code (own.py)" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "name", ["run.json", "model/config.json", "model/tokenizer_config.json", "verification/facts.json", "recipe.yaml"]
)
def test_a_file_that_is_nested_too_deep_names_no_code_and_is_no_traceback(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("[" * 50_000)
    assert code_places(tmp_path) == []
