"""A run's training rows among the rows that its model is measured on, which are no evidence; looked for by `ftkit eval`."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from datasets import Dataset, Features

from ftkit.data.clean import clean_batch, cleaned_features
from ftkit.data.columns import given_columns, given_rows
from ftkit.data.duplicates import Overlap, overlap
from ftkit.data.ledger import ROW, Ledger, row_numbers
from ftkit.data.splits import Splits, find_overlap, fingerprint, open_stream, read_splits
from ftkit.data.texts import as_text
from ftkit.errors import UserError
from ftkit.reading import object_if_there
from ftkit.recipe.schema import Recipe
from ftkit.run import DATA_REPORT, Run
from ftkit.tasks.table import TASKS

BATCH = 20_000  # streamed rows that are compared at a time
GIVEN = "given"

Found = tuple[str, str]  # the kind of copy, and the training row's name


def training_row_caveats(run: Run, rows: Dataset, ledger: Ledger) -> list[str]:
    """How many of the rows the run was trained on, as a score on them has to be read with; or why that is not known.

    Args:
        rows: what is measured, under the task's column names, each with its number in the ledger.
    """
    try:
        recipe = run.read_recipe()
        found: dict[int, Found] = {}
        for train, names in training_rows(recipe, run):
            for row, kind, other in copies(train, rows, recipe.data.gate.similarity):
                found.setdefault(row, (kind, names.name(row_numbers(train)[[other]])))
        changed = has_changed(recipe, run)
    except UserError as error:
        return [f"the run's training rows could not be looked for among these rows: {error}"]
    note = ["the run's training data changed since: these rows were looked for in what is there now"] if changed else []
    return [*told(found, rows, ledger), *note]


def told(found: dict[int, Found], rows: Dataset, ledger: Ledger) -> list[str]:
    """What was found in one sentence; nothing where nothing was."""
    if not found:
        return []
    first = min(found)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in Counter(kind for kind, _ in found.values()).items())
    place = ledger.name(row_numbers(rows)[[first]])
    share = f"{len(found):,} of {len(rows):,} rows ({100 * len(found) / len(rows):.0f} %)"
    return [f"{share} are training rows of the run: {counts}; {place} to {found[first][1]}"]


def training_rows(recipe: Recipe, run: Run) -> Iterator[tuple[Dataset, Ledger]]:
    """What the run was trained on, of a stream what was read, as it is there now; and the ledger that names the rows.

    Raises:
        UserError: the rows cannot be read.
    """
    block = recipe.data
    if not block.streaming:
        splits = splits_of(recipe)
        yield splits.rows["train"], splits.ledger
        return
    ledger = Ledger()
    stream = open_stream(block, recipe.spec, ledger)
    features = Features({**cleaned_features(stream.features, block.clean), ROW: stream.of_pass(0).features[ROW]})
    report = object_if_there(run.data_report, DATA_REPORT)
    taken = stream.of_pass(0).take(report["streamed"]["read"]) if "streamed" in report else stream.of_pass(0)
    for batch in taken.iter(batch_size=BATCH):
        numbers = batch.pop(ROW)
        yield (
            Dataset.from_dict({**clean_batch(batch, stream.features, block.clean)[0], ROW: numbers}, features=features),
            ledger,
        )


def copies(train: Dataset, rows: Dataset, similarity: float) -> Iterator[tuple[int, str, int]]:
    """Of each row that is a training row: its place, the kind of copy, and the training row's place."""
    for kind, pairs in compared(train, rows, similarity).kinds().items():
        for row, other in pairs:
            yield row, kind, other


def compared(train: Dataset, rows: Dataset, similarity: float) -> Overlap:
    """The rows are looked for by what is given to the model; where they have another form, by all of that as one text."""
    if given_columns(train) == given_columns(rows):
        return find_overlap(train, rows, similarity)
    return overlap(as_one_text(train), as_one_text(rows), [GIVEN], similarity)


def as_one_text(rows: Dataset) -> Dataset:
    """What is given to the model, as an instruction and its input are put together for a chat."""
    given = given_rows(rows)

    def join(batch: dict[str, list[Any]]) -> dict[str, list[str]]:
        return {GIVEN: ["\n\n".join(filter(None, map(as_text, values))) for values in zip(*batch.values(), strict=True)]}

    return given.map(join, batched=True, remove_columns=given.column_names)


def has_changed(recipe: Recipe, run: Run) -> bool:
    """Whether the training rows are no longer those of the run; of a stream nobody knows."""
    recorded = run.record.get("data", {}).get("train", {}).get("sha256")
    if recipe.data.streaming or not recorded:
        return False
    return bool(fingerprint(splits_of(recipe).rows["train"]) != recorded)


def splits_of(recipe: Recipe) -> Splits:
    """The recipe's rows, split as they are to be trained on."""
    task = TASKS[recipe.task](recipe.data)
    return read_splits(recipe.data, recipe.spec, task.strata, members=task.members)
