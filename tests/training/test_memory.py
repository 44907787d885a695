"""What a process holds beside tensors is counted once: in what it needs, and in the memory that it may hold all in all."""

from collections.abc import Callable

import pytest
import torch

from ftkit import Recipe, api
from ftkit.training.memory import GPU_CONTEXT, beside_tensors, gpu_room, gpu_room_bytes
from ftkit.units import GIB, MIB


@pytest.mark.parametrize("idle", [0, 300 * MIB])
def test_all_that_a_gpu_has_free_is_for_tensors(idle: int) -> None:
    """The device was asked by a process whose context is there already: it is not among what is free."""
    tensors = 7 * GIB + idle
    assert tensors + beside_tensors("cuda", 2 * GIB) == gpu_room(7 * GIB, idle)


def test_of_memory_that_was_named_the_context_is_a_part(recipe: Callable[..., Recipe]) -> None:
    made = recipe("lora", evaluation={"general_text": False, "baseline": False})
    plan = api.plan(made, device="cuda", vram=1.5, measure=False)
    assert plan.needed == plan.memory["peak"] + GPU_CONTEXT
    assert plan.fits
    assert not api.plan(made, device="cuda", vram=(GPU_CONTEXT + plan.memory["peak"] - 1024) / GIB, measure=False).fits


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_without_a_gpu_nobody_can_be_asked() -> None:
    assert gpu_room_bytes() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_tensors_that_come_and_go_leave_the_room_of_a_gpu() -> None:
    before = gpu_room_bytes()
    assert before is not None
    block = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    held = gpu_room_bytes()
    del block
    after = gpu_room_bytes()
    assert held is not None
    assert after is not None
    assert before - held == pytest.approx(256 * MIB, abs=16 * MIB)
    assert after == pytest.approx(before, abs=16 * MIB)
