"""What is set before torch is loaded, and what the user has set stays."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ftkit.deferral import defer
from ftkit.process import quota

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is another one here")
ONEDNN = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
OURS = (
    "THP_MEM_ALLOC_ENABLE", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", ONEDNN, "FTKIT_ALLOCATOR",
    "LRU_CACHE_CAPACITY", "GLIBC_TUNABLES", "LD_PRELOAD",
)  # fmt: skip
SEEN = "import os, ftkit.process as p; p.prepare_process(); print(os.environ.get({name!r}), p._facts['blocks_kept'])"
# One block of 64 MiB after another: does memory that was given back stay with the process?
HELD = """
import ctypes, ftkit
from ftkit.process import return_blocks
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
block = libc.malloc(ctypes.c_size_t(64 << 20)); ctypes.memset(block, 1, 64 << 20)
full = resident(); libc.free(block); freed = resident(); return_blocks()
print(full - freed, full - resident())
"""
# MiB that malloc has given out after 100 and after 300 steps, each of a size of its own.
SIZES = """
import {first}
import ctypes, torch
class Info(ctypes.Structure):
    _fields_ = [(str(place), ctypes.c_size_t) for place in range(7)] + [("taken", ctypes.c_size_t), ("left", ctypes.c_size_t * 2)]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
layers = torch.nn.Sequential(*(torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 256))).bfloat16()
for step in range(300):
    layers(torch.randn(64 + step, 256, dtype=torch.bfloat16)).sum().backward()
    if step in (99, 299):
        print(libc.mallinfo2().taken >> 20)
"""


def in_child(code: str, **environment: str) -> str:
    """What a fresh process prints whose user has set these variables, and no others that matter here."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept | environment)
    return done.stdout.strip()


@GLIBC
def test_by_default_threads_wait_and_the_allocator_is_set() -> None:
    assert in_child(SEEN.format(name="OMP_WAIT_POLICY")) == "PASSIVE False"
    assert in_child(SEEN.format(name="GOMP_SPINCOUNT")) == "2000 False"
    assert in_child(SEEN.format(name="THP_MEM_ALLOC_ENABLE")) == "1 False"
    assert in_child(SEEN.format(name=ONEDNN)) == "64 False"


@GLIBC
def test_large_blocks_stay_with_the_process_until_they_are_returned() -> None:
    at_once, returned = map(int, in_child(HELD, FTKIT_ALLOCATOR="keep").split())
    assert at_once < 8
    assert returned > 56
    at_once, _ = map(int, in_child(HELD).split())
    assert at_once > 56


@GLIBC
@pytest.mark.slow
@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no products in bfloat16")
def test_steps_of_ever_new_sizes_do_not_fill_the_memory() -> None:
    before, after = map(int, in_child(SIZES.format(first="ftkit")).split())
    assert after - before < 5
    before, after = map(int, in_child(SIZES.format(first="sys")).split())
    assert after - before > 10


@pytest.mark.parametrize(
    "setting",
    [
        {"FTKIT_ALLOCATOR": "0"},
        {"MALLOC_ARENA_MAX": "2"},
        {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"},
    ],
    ids=str,
)
def test_an_allocator_that_the_user_chose_is_left_alone(setting: dict[str, str]) -> None:
    assert in_child(SEEN.format(name="THP_MEM_ALLOC_ENABLE"), **setting) == "None False"


def test_what_the_user_set_stays() -> None:
    setting = {"THP_MEM_ALLOC_ENABLE": "0", "OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "3", ONEDNN: "512"}
    for name, value in setting.items():
        assert in_child(SEEN.format(name=name), **setting).split()[0] == value


@pytest.mark.parametrize(("mine", "other"), [("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"), ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")])
def test_who_says_one_thing_of_waiting_says_all_of_it(mine: str, other: str) -> None:
    assert in_child(SEEN.format(name=other), **{mine: "0"}) == "None False"


def grant(root: Path, lines: str, files: dict[str, str]) -> Path:
    """A machine's /proc and /sys with these control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, 4),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"}, 1),
        ("4:cpu,cpuacct:/c\n", {"cpu/c/cpu.cfs_quota_us": "50000", "cpu/c/cpu.cfs_period_us": "100000"}, 1),
        ("4:cpu,cpuacct:/c\n", {"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"}, None),
        ("7:memory:/m\n", {}, None),
    ],
)
def test_the_cores_that_control_groups_grant(tmp_path: Path, lines: str, files: dict[str, str], cores: int | None) -> None:
    assert quota(grant(tmp_path, lines, files)) == cores


def test_no_control_groups(tmp_path: Path) -> None:
    assert quota(tmp_path) is None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that says when it is loaded."""
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import part\nprint('loaded')\nvalue = part.value\n")
    (folder / "part.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("slow_package", "slow_package.part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder.name


def test_a_deferred_package_loads_when_it_is_used(package: str, capsys: Any) -> None:
    defer(package)
    import slow_package  # type: ignore[import-not-found]

    assert capsys.readouterr().out == ""
    assert slow_package.value == 7
    assert capsys.readouterr().out == "loaded\n"
    assert sys.modules[package] is slow_package
    assert slow_package.__path__


def test_a_part_of_a_deferred_package_loads_all_of_it(package: str, capsys: Any) -> None:
    defer(package)
    import slow_package.part  # type: ignore[import-not-found]

    assert capsys.readouterr().out == "loaded\n"
    assert slow_package.part.value == 7


def test_a_deferred_package_that_is_not_there_is_not_found() -> None:
    defer("no_such_package")
    with pytest.raises(ModuleNotFoundError):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401
    sys.meta_path.pop(0)
