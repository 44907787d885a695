"""The kind: weights of somebody else that are no weights: pickles with code in them, torn files, tables of contents that lie."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ftkit import api
from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe

MARK = "code-was-run"


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARK}",)


def as_torch(value: Any) -> Callable[[Path], None]:
    return lambda folder: torch.save(value, folder / "pytorch_model.bin")


def as_bytes(data: bytes, name: str = "pytorch_model.bin") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle of code": (as_bytes(pickle.dumps(Code())), "a pickle that holds more than tensors"),
    "code in torch's own form": (as_torch({"a": Code()}), "a pickle that holds more than tensors"),
    "junk": (as_bytes(b"junk"), "damaged"), "nothing": (as_bytes(b""), "damaged"), "text": (as_torch({"transformer.wte.weight": "a"}), ""),
    "a list": (as_torch(["x"]), ""), "other shapes": (as_torch({"transformer.wte.weight": torch.zeros(2, 3)}), ""),
    "a torn safetensors": (as_bytes(b"\x08\0\0\0\0\0\0\0{}", "model.safetensors"), "damaged"),
    **{
        f"an index of {text[:12]}": (as_bytes(text.encode(), f"{name}.index.json"), "")
        for text in ("[]", "{", '{"weight_map": []}', json.dumps({"metadata": {}, "weight_map": {"a": "../../x.bin"}}))
        for name in ("pytorch_model.bin",)
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_none_are_one_line(
    kind: str, recipe: Callable[..., Recipe], stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    write, words = KINDS[kind]
    shutil.copytree(stand_in("gpt2"), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    write(tmp_path / "model")
    with pytest.raises(UserError) as caught:
        api.check(recipe("lora", task="instruction", kind="gpt2", model={"name": str(tmp_path / "model")}))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.key == "model.name"
    assert not list(tmp_path.rglob(MARK))
