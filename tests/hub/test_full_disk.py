"""A disk that is full where the hub's files or the rows made of them are to lie: one line that names the place.

The disk is a real one, of few kilobytes, mounted in a namespace of the command's own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.recipe.packaged import packaged_recipes
from tests.hub.packaged import publish_packaged
from tests.hub.server import Hub

RECIPE = packaged_recipes()["gpt2_domain"]
MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'


@pytest.fixture(scope="module")
def home(module_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with what the recipe names; a folder to mount on."""
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    folder = tmp_path_factory.mktemp("full")
    publish_packaged(module_hub, folder / "models")
    (folder / "small").mkdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "size", "command", "what"),
    [
        ("HF_HOME", "4k", "plan", "the model openai-community/gpt2"),
        ("HF_HOME", "300k", "train", "the model openai-community/gpt2"),
        ("HF_DATASETS_CACHE", "8k", "train", "the data set Salesforce/wikitext"),
    ],
    ids=["config", "weights", "rows"],
)
def test_a_full_disk_is_one_line(
    module_hub: Hub, home: Path, tmp_path: Path, variable: str, size: str, command: str, what: str
) -> None:
    places = {"HF_HOME": str(tmp_path / "home"), variable: str(home / "small"), "HF_HUB_OFFLINE": "0", "COLUMNS": "500"}
    words = [sys.executable, "-m", "ftkit", command, str(RECIPE), *(["-o", "run"] if command == "train" else [])]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT, "sh", size, str(home / "small"), *words],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"HF_ENDPOINT": module_hub.address} | places,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"{what}: no space is left in {home / 'small'}" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
