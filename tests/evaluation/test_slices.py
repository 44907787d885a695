"""Slices of the eval rows: how they are grouped and called."""

import numpy as np

from ftkit.data.ledger import Ledger
from ftkit.evaluation.analysis import make_slices


def test_counts_are_cut_at_whole_numbers() -> None:
    lengths = [10, 11, 12, 13, 14, 16, 18, 20, 23, 26, 30, 35] * 5
    slices = make_slices({"length": lengths})
    quarters = np.quantile(lengths, [0.25, 0.5, 0.75])
    assert not (quarters == quarters.round()).all()
    assert slices.values == ["up to 12", "12 to 17", "17 to 23", "over 23"]
    assert slices.members.sum(0).tolist() == [1] * len(lengths)  # each row in one of them
    assert slices.members.sum(1).tolist() == [15, 15, 15, 15]


def test_a_source_is_called_by_its_file_name_unless_two_are_called_so() -> None:
    ledger = Ledger()
    for path in ("/home/me/a/x.csv", "/home/me/b.csv", "/home/me/c/x.csv"):
        ledger.enter(path, "eval", 2)
    assert ledger.files(np.arange(6))[::2] == ["/home/me/a/x.csv", "b.csv", "/home/me/c/x.csv"]
