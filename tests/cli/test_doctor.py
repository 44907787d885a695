"""What `ftkit doctor` says of a machine, whole or broken.

Kind: a diagnosis that dies of what it is to find, calls broken what works or the other way, or tells whose machine it is. What is
broken here is really broken: a package that stands before the true one and raises, ends the process, or is a file too old.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ftkit.doctor import installed, places
from ftkit.doctor.children import answers
from ftkit.doctor.examine import import_all, own_places
from ftkit.doctor.findings import BROKEN, GOOD, NOTE, Finding, lines, public
from tests.cli.command import ftkit

ROOT = Path(__file__).parent.parent.parent
REQUIRED = {"torch", "transformers", "datasets", "peft", "accelerate", "evaluate", "pydantic", "huggingface_hub"}


def shadow(folder: Path, name: str, code: str) -> str:
    """A package that stands before the true one; the variable that puts it there."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def state_of(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """The states and values of what `--json` tells, by name."""
    told = json.loads(done.stdout)
    assert told["good"] is (done.returncode == 0)
    return {one["name"]: (one["state"], one["value"]) for one in told["findings"]}


@pytest.mark.slow
def test_a_whole_machine_trains_and_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    done = ftkit("doctor", "--json", TMPDIR=str(tmp_path / "tmp"), HF_TOKEN="hf_planted", HF_HUB_OFFLINE="1")
    found = state_of(done)
    assert done.returncode == 0, done.stdout
    assert {state for state, _ in found.values()} <= {GOOD, NOTE}
    assert "hf_planted" not in done.stdout + done.stderr
    assert found["token"] == (GOOD, "yes")
    assert found["offline switches"] == (GOOD, "HF_HUB_OFFLINE=1")
    assert "tokens/s" in found["training"][1]
    assert {"processor", "memory", "precision", "gpu", *installed.PURPOSES} <= found.keys()
    assert list((tmp_path / "tmp").iterdir()) == list(Path.cwd().glob("runs")) == []


BREAKS = {
    "torch": "raise OSError('libtorch.so: cannot open shared object file')",
    "transformers": "raise ImportError('cannot import name what from where')",
    "peft": "import os; os.abort()",
    "datasets": "raise SystemExit('no')",
    "pydantic": "raise RuntimeError('built for another Python')",
    "huggingface_hub": "syntax error",
    "rich": "raise ImportError('gone')",
    "packaging": "raise ImportError('gone')",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [("torch", "transformers", "peft", "datasets"), ("pydantic", "rich", "huggingface_hub"), ("packaging",)],
    ids=["of training", "of every command", "of the doctor"],
)
def test_broken_libraries_are_a_line_each(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        path = shadow(tmp_path / "broken", name, BREAKS[name])
    done = ftkit("doctor", PYTHONPATH=path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    faults = [line for line in done.stdout.splitlines() if line.startswith("!")]
    for name in names:
        assert any(name in line and ("cannot be imported" in line or "not known" in line) for line in faults), done.stdout
    assert done.stdout.splitlines()[-1].startswith("broken: ")
    assert {"disk", "hub", "hardware", "extras", "training"} <= set(done.stdout.splitlines())  # the other parts are told


@pytest.mark.parametrize("name", ["pydantic", "rich", "huggingface_hub"])
def test_a_command_whose_libraries_are_broken_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    done = ftkit("recipes", PYTHONPATH=shadow(tmp_path / "broken", name, BREAKS[name]))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ftkit cannot be loaded: ")
    assert "ftkit doctor" in line


@pytest.mark.slow
def test_a_broken_extra_is_worth_a_look(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    done = ftkit("doctor", "--json", PYTHONPATH=shadow(tmp_path, "bitsandbytes", "raise RuntimeError('CUDA Setup failed')"))
    state, value = state_of(done)["qlora"]
    assert (state, "CUDA Setup failed" in value) == (NOTE, True)


@pytest.mark.slow
def test_an_import_that_ends_the_process_leaves_the_others_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"raises": "raise ValueError('no')", "aborts": "import os; os.abort()", "exits": "import os; os._exit(7)"}
    for name, code in broken.items():
        shadow(tmp_path / "broken", name, code)
    monkeypatch.syspath_prepend(tmp_path / "broken")
    errors: dict[str, str] = {}
    hardware = import_all(["json", "raises", "aborts", "csv", "exits", "wave"], errors)
    assert errors == {
        "raises": "ValueError: no", "aborts": "it was ended by SIGABRT", "exits": "it ended with status 7",
    }  # fmt: skip
    assert {one.name for one in hardware} == {"processor", "memory", "precision", "gpu"}


def test_what_is_overdue_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow(tmp_path, "sleeps", "import time\ndef main(): time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("ftkit.doctor.children.LIMIT", 0.5)
    assert list(answers("sleeps")) == [{"ended": "it did not end within 0 s"}]


@pytest.mark.parametrize(
    ("requirement", "state", "said"),
    [
        ("numpy>=1.0", GOOD, "(>=1.0)"),
        ("numpy>=99", BROKEN, "is outside >=99"),
        ("numpy<1", BROKEN, "is outside <1"),
        ("no-such-package>=2", BROKEN, "missing (>=2)"),
    ],
)
def test_a_version_is_held_to_its_range(requirement: str, state: str, said: str) -> None:
    found = installed.of_package(Requirement(requirement))
    assert (found.state, said in found.value) == (state, True)
    assert (requirement in found.hint) is (state == BROKEN)


def test_a_python_that_is_too_old_is_broken() -> None:
    assert [one.state for one in installed.versions([], ">=99")][1] == BROKEN


@pytest.mark.parametrize(
    ("requirement", "errors", "state", "said"),
    [
        ("numpy>=1.0", {}, GOOD, "there: numpy"),
        ("numpy>=99", {}, NOTE, "is outside >=99"),
        ("numpy>=1.0", {"numpy": "OSError: no"}, NOTE, "cannot be imported: OSError: no"),
        ("no-such-package", {}, GOOD, "missing: no-such-package"),
    ],
)
def test_an_extra_is_never_required(requirement: str, errors: dict[str, str], state: str, said: str) -> None:
    found = installed.of_extra("qlora", "strategy qlora", [Requirement(requirement)], errors)
    assert (found.state, said in found.value) == (state, True)
    assert ("pip install 'ftkit[qlora]'" in found.hint) is (not said.startswith("there"))


def test_the_extras_of_the_source_are_all_known() -> None:
    """Kind: an extra that is added to the package and that the doctor has never heard of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts, python = installed.of_source(ROOT / "pyproject.toml")
    requirements = installed.parsed(texts)
    assert project["optional-dependencies"].keys() == installed.PURPOSES.keys()
    assert SpecifierSet(python) == SpecifierSet(project["requires-python"])
    assert len(installed.serving(requirements)) == len(project["dependencies"])
    for name, wanted in project["optional-dependencies"].items():
        assert all(installed.is_of(one, name) for one in installed.serving(requirements, name))
        found = {one.name for one in installed.serving(requirements, name)}
        assert found == {Requirement(text).name for text in wanted if "linux" not in text or sys.platform == "linux"}
    assert {installed.module_of(one) for one in installed.serving(requirements)} >= REQUIRED


@pytest.mark.parametrize("required", [True, False])
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, required: bool) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "cache", Path("/proc/ftkit/cache")):
        found = places.place("cache", folder, required=required, hint="name another")
        assert found.state == (BROKEN if required else NOTE)
        assert "cannot be written to" in found.value
    assert places.place("cache", tmp_path / "not" / "yet", required=True, hint="").state == GOOD
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_the_cache_that_cannot_be_written_to_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "file" / "cache"))
    assert {one.name: one.state for one in places.disk()}["cache"] == BROKEN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{home}/.cache/ftkit", "~/.cache/ftkit"),
        ("in {home}", "in ~"),
        ("{home}ling/x", "{home}ling/x"),
        ("/home/anna/lib/torch.so: no", "~/lib/torch.so: no"),
        ("/Users/anna/x", "~/x"),
        ("/data/home/anna", "/data/home/anna"),
        ("hf_planted in https://anna:secret@hub.example/x", "*** in https://***@hub.example/x"),
    ],
)
def test_nothing_tells_whose_machine_it_is(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setenv("HOME", "/srv/people/anna")
    home = "/srv/people/anna"
    assert public(text.format(home=home)) == shown.format(home=home)


def test_lines_stand_under_their_parts_and_the_last_says_what_is_broken() -> None:
    found = [Finding("a", "x", "1"), Finding("a", "y", "2", BROKEN, "mend it"), Finding("b", "z", "3", NOTE)]
    assert [" ".join(line.split()) for line in lines(found)] == ["a", "x 1", "! y 2; mend it", "b", "? z 3", "broken: y"]
    assert list(lines(found[:1]))[-1] == "all that is required works"


def test_the_training_writes_nowhere_else() -> None:
    folder = Path(tempfile.gettempdir()) / "doctor"
    variables = own_places(folder)
    assert {name for name, value in variables.items() if Path(value).is_relative_to(folder)} == {
        "FTKIT_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE",
    }  # fmt: skip
