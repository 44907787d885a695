"""Every row of predictions.jsonl has the same keys, whatever is known of it."""

from ftkit.evaluation.measure import one_shape


def test_what_a_row_has_nothing_of_is_null() -> None:
    rows = [
        {"row": 0, "text": "a", "tuned": {"loss": 1.0, "generated": "x"}, "baseline": {"loss": 2.0}},
        {"row": 1, "prompt": "b", "tuned": {"loss": 1.5}, "baseline": {"loss": 2.5, "generated": "y"}},
    ]
    first, second = one_shape(rows)
    assert list(first) == list(second)
    assert first["prompt"] is second["text"] is None
    assert first["tuned"].keys() == second["tuned"].keys() == {"loss", "generated"}
    assert (first["baseline"]["generated"], second["tuned"]["generated"]) == (None, None)


def test_without_a_baseline_there_is_none() -> None:
    assert one_shape([{"row": 0, "tuned": {"loss": 1.0}}]) == [{"row": 0, "tuned": {"loss": 1.0}}]
