"""A model that never sees an end token forgets how to end, and the run says so."""

from pathlib import Path

import pytest

from ftkit import load_recipe, train

RECIPES = Path(__file__).parent.parent.parent / "recipes"
NO_END = "{% for m in messages %}{{ m.content }} {% endfor %}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_end_token_masked_on_purpose_is_flagged(tmp_path: Path) -> None:
    overrides = [f"data.chat_template={NO_END!r}", "data.gate.without_end=1.0"]
    recipe = load_recipe(RECIPES / "gpt2_instruction.yaml", overrides)
    metrics = train(recipe, output_dir=tmp_path / "run", smoke=True).metrics
    assert metrics["tuned"]["stop_rate"] < metrics["baseline"]["stop_rate"]
    assert metrics["intervals"]["difference"]["stop_rate"][1] < 0
    assert any("of its answers by itself" in flag for flag in metrics["flags"])
    assert "of its answers by itself" in (tmp_path / "run" / "report.html").read_text()
    assert any("end token" in caveat for caveat in metrics["caveats"])
