"""Predictions for rows of any number: read a batch, answer it, hand it on; memory does not grow with the rows."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from transformers import EvalPrediction
from transformers.trainer_pt_utils import nested_concat

from ftkit.data.encode import IGNORED
from ftkit.data.ledger import Outcome
from ftkit.errors import UserError
from ftkit.evaluation.generation import answer_text, autocast, generate_ids
from ftkit.prediction.rows import BAD_ROW, InputRow
from ftkit.prediction.trained import Question, Trained

PROBLEMS = {
    Outcome.EMPTY: "a field is empty", Outcome.TOO_LONG: "too long: the prompt is never cut in this task",
    Outcome.LOST_TEXT: "a field leaves no token under the chat template",
}  # fmt: skip
Answered = dict[str, Any]


class Predictor:
    """Answers rows in batches, in their order, and counts what became of them.

    Attributes:
        counts: rows answered, cut, and not answered.
    """

    def __init__(self, trained: Trained, *, batch_size: int | None = None, skip_bad: bool = False) -> None:
        self.trained = trained
        self.batch_size = trained.batch_size if batch_size is None else batch_size
        self.skip_bad = skip_bad
        self.counts: Counter[str] = Counter()

    def batches(self, rows: Iterator[InputRow]) -> Iterator[list[Answered]]:
        """One object a row: its number and fields, and what is predicted, or the problem that kept it from being answered.

        Raises:
            UserError: a row is bad, and such rows are not skipped; the rows before it have been handed on.
        """
        rows = iter(rows)
        while True:
            asked, fault = self._ask(islice(rows, self.batch_size))
            if asked:
                yield self._answer(asked)
            if fault is not None:
                raise fault
            if not asked:
                return

    def _ask(self, rows: Iterator[InputRow]) -> tuple[list[tuple[InputRow, Question | str]], UserError | None]:
        """The rows of a batch as the model takes them, up to one that ends it all."""
        asked: list[tuple[InputRow, Question | str]] = []
        try:
            for row in rows:
                try:
                    asked.append((row, self._question(row)))
                except UserError as error:
                    if not self.skip_bad:
                        raise
                    asked.append((row, error.message))
        except UserError as error:  # of this row, or of the file from here on
            return asked, error
        return asked, None

    def _question(self, row: InputRow) -> Question:
        try:
            if row.problem:
                raise UserError(row.problem, BAD_ROW)
            return self.trained.ask(row.fields)
        except UserError as error:
            message = error.message.replace(" in row 1:", ":").removeprefix("row 1: ")  # it was encoded alone
            raise UserError(message, error.hint, row.place) from None

    def _problem(self, question: Question) -> str:
        """Why a row cannot be answered, with the fields that leave no token."""
        fields = self.trained.task.lost_fields(question.values) if question.outcome is Outcome.LOST_TEXT else []
        return ": ".join([PROBLEMS[question.outcome], *([", ".join(fields)] if fields else [])])

    def _answer(self, asked: list[tuple[InputRow, Question | str]]) -> list[Answered]:
        whole = [found for _, found in asked if isinstance(found, Question) and found.entries]
        answers = iter(answer(self.trained, whole) if whole else [])
        made = []
        for row, found in asked:
            if isinstance(found, Question) and found.entries:
                said = next(answers) | ({"cut": True} if found.cut else {})
            else:
                said = {"problem": found if isinstance(found, str) else self._problem(found)}
            self.counts.update({"rows": 1, "cut": "cut" in said, "not answered": "problem" in said})
            made.append({"row": row.number} | row.fields | {"row": row.number} | said)
        return made


def answer(trained: Trained, questions: list[Question]) -> list[Answered]:
    """What the model says to each question of a batch."""
    with torch.inference_mode():
        return generated(trained, questions) if trained.task.generates else classified(trained, questions)


def classified(trained: Trained, questions: list[Question]) -> list[Answered]:
    """The answers of a model that labels; a long row's entries are read apart, no more at a time than there are rows."""
    entries = [entry for question in questions for entry in question.entries]
    rows = [index for index, question in enumerate(questions) for _ in question.entries]
    found = None
    for first in range(0, len(entries), len(questions)):
        read = read_entries(trained, entries[first : first + len(questions)])
        found = read if found is None else nested_concat(found, read, padding_index=IGNORED)
    assert found is not None
    prediction, _ = trained.task.merge(EvalPrediction(*found), rows)
    return [trained.task.answer(question.values, prediction, index) for index, question in enumerate(questions)]


def read_entries(trained: Trained, entries: list[dict[str, Any]]) -> tuple[Any, Any]:
    """What is kept of the logits of a batch of entries, and their labels."""
    batch = trained.task.collator(trained.tokenizer, trained.model)(entries)
    batch = {name: values.to(trained.model.device) for name, values in batch.items()}
    labels = batch.pop("labels")
    with autocast(trained.model.device.type, trained.bf16):  # as the Trainer measures
        logits = trained.model(**batch).logits
    return trained.task.reduce_logits(logits, labels).cpu().numpy(), labels.cpu().numpy()


def generated(trained: Trained, questions: list[Question]) -> list[Answered]:
    prompts, ends = zip(*map(trained.prompt, questions), strict=True)
    tokenizer = trained.tokenizer
    stops = sorted(set().union(*ends) | {tokenizer.eos_token_id})
    answers = generate_ids(trained.model, tokenizer, list(prompts), trained.generation, stops)
    return [
        {
            "generated": answer_text(tokenizer, ids, stops),
            "stopped": bool(ids) and ids[-1] in stops,
        }
        for ids in answers
    ]
