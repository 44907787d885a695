"""Language modeling: the next token of plain text, laid end to end and cut into blocks; every token is supervised.

With packing texts are kept apart: each is an example of its own, or several where it is longer than a block.
"""

import bisect
from dataclasses import replace
from typing import Any

from datasets import Features
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.encode import Cutter, Encoded, Encoder, digest
from ftkit.data.ledger import Outcome
from ftkit.data.packing import cut_long
from ftkit.data.prompts import end_token
from ftkit.tasks.language import LanguageTask, decoder_class, text_of

BATCH = 1000


class LanguageModeling(LanguageTask):
    def auto_class(self, config: PretrainedConfig) -> Any:
        return decoder_class(config, "language-modeling")

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        end = end_token(tokenizer)

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            texts = [text_of(batch, "text", index, row) for index, row in enumerate(positions)]
            full = [text for text in texts if text is not None]
            made = iter(tokenizer(full, verbose=False)["input_ids"] if full else [])
            rows = [None if text is None else next(made) for text in texts]
            ids = [[] if row is None else row if row[-1:] == [end] else [*row, end] for row in rows]
            return {"input_ids": ids, "labels": ids, "outcome": [int(self._outcome(row)) for row in ids]}

        return encode

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"packing": self.data.packing}

    def _outcome(self, ids: list[int]) -> Outcome:
        """Of a text by its tokens, none where it is empty; where no other text follows, a single one foretells nothing."""
        if self.data.packing and len(ids) == 1:
            return Outcome.UNSUPERVISED
        return Outcome.KEPT if ids else Outcome.EMPTY

    def arrange(self, encoded: Encoded, max_length: int) -> Encoded:
        if self.data.packing:
            examples, texts, notes = cut_long(encoded.dataset, max_length)
            return replace(encoded, dataset=examples, rows=[encoded.rows[text] for text in texts], notes=notes)
        starts: list[int] = []
        total = 0

        def blocks(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            """Whole blocks, and the rest when the last row is in."""
            nonlocal total
            for ids in batch["input_ids"]:
                starts.append(total)
                total += len(ids)
                rest.extend(ids)
            whole = len(rest) // max_length * max_length
            last = positions[-1] == len(encoded.dataset) - 1
            until = len(rest) if last and len(rest) - whole > 1 else whole
            made = [rest[at : at + max_length] for at in range(0, until, max_length)]
            del rest[:until]
            return {"input_ids": made, "labels": made}

        rest: list[int] = []
        dataset = encoded.dataset.map(
            blocks, batched=True, batch_size=BATCH, with_indices=True, load_from_cache_file=False,
            remove_columns=encoded.dataset.column_names, features=encoded.dataset.features,
            new_fingerprint=digest(encoded.dataset._fingerprint, "blocks", str(max_length)),
        )  # fmt: skip
        rows = [encoded.rows[_row_at(starts, offset)] for offset in range(0, len(dataset) * max_length, max_length)]
        return replace(encoded, dataset=dataset, rows=rows, notes={"tokens": total})

    def cutter(self, max_length: int) -> Cutter:
        rest: list[int] = []

        def cut(rows: list[list[int]]) -> list[list[int]]:
            for ids in rows:
                rest.extend(ids)
            until = len(rest) // max_length * max_length
            made = [rest[at : at + max_length] for at in range(0, until, max_length)]
            del rest[:until]
            return made

        return cut


def _row_at(starts: list[int], offset: int) -> int:
    """Which row the token at `offset` of the stream belongs to."""
    return bisect.bisect_right(starts, offset) - 1
