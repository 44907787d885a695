"""The script that measures on a GPU: what it makes of figures, and a trial of it all on a CPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks/gpu.py"
MACHINE = {"gpu": True, "rate": 1e12, "parameters": 10**6}
WAY = {"entries": 10.0, "rows": 2.0, "allocated": 2.0**31, "reserved": 2.0**32}


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    sys.path.append(str(SCRIPT.parent))  # it imports what stands beside it
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_of_rounds_become_lines(gpu: ModuleType) -> None:
    ours, theirs = [{**WAY, "step": 0.5}, {**WAY, "step": 0.25}], [{**WAY, "step": 1.0}, {"lacking": "failed"}]
    results = {"ftkit": ours, "bf16": theirs, "sft": [{"lacking": "out of memory"}] * 2}
    found = gpu.Found(1000, results, 2**30, {"liger_kernel": True, "a": False})
    lines = gpu.lines_of("lora-2k", found, MACHINE)
    assert lines == [
        "| lora-2k | ftkit | 600 |  | 0.2% | 2.00 | 4.00 | 1.00 (0.50) |",
        "| lora-2k | bf16 | 200 | 2.00 (2.00-2.00) | 0.1% | 2.00 | 4.00 |  |",
        "| lora-2k | sft | out of memory | | | | | |",
        "| lora-2k | ftkit's levers | liger kernel | | | | | |",
    ]


def test_the_page_keeps_what_other_scripts_wrote(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["results_page"], "PAGE", tmp_path / "RESULTS.md")
    (tmp_path / "RESULTS.md").write_text("# One\n\n<!-- gpu.py -->\nold\n<!-- /gpu.py -->\n\n## Three\n")
    gpu.write_section("gpu.py", ["new"])
    assert (tmp_path / "RESULTS.md").read_text() == "# One\n\n<!-- gpu.py -->\nnew\n<!-- /gpu.py -->\n\n## Three\n"


@pytest.mark.slow
def test_a_trial_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--shape",
        "tiny",
        "--steps",
        "2",
        "--only",
        "qlora-8k",
        "--output",
        str(tmp_path),
    ]
    page = SCRIPT.with_name("RESULTS.md").read_text(encoding="utf-8")
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    assert "on a CPU: a trial of the script" in done.stdout
    for way in ("ftkit", "bf16"):
        assert f"| qlora-8k | {way} | " in done.stdout
    assert "out of memory" not in done.stdout
    assert SCRIPT.with_name("RESULTS.md").read_text(encoding="utf-8") == page
