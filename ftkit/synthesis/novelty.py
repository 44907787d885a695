"""How like an instruction is to those there are: ROUGE-L as the rouge-score package has it, computed faster.

The package fills a table of all pairs of words in Python. Here the longest common subsequence is counted with whole rows of
that table as the bits of one integer (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"), and an instruction whose
length alone rules out the threshold is not looked at. Words are a-z and 0-9, as in the package: an instruction in another
script has none, and is only ever found to be a duplicate.
"""

from collections.abc import Iterable

from rouge_score.tokenizers import DefaultTokenizer

Masks = dict[str, int]


class Novelty:
    """The instructions there are; asks of a new one whether it is too like any of them."""

    def __init__(self, threshold: float, instructions: Iterable[str] = ()) -> None:
        self.threshold = threshold
        self._tokenizer = DefaultTokenizer(use_stemmer=False)
        self._words: list[list[str]] = []
        self._texts: set[str] = set()
        for instruction in instructions:
            self.add(instruction)

    def add(self, instruction: str) -> None:
        self._words.append(self._tokenizer.tokenize(instruction))
        self._texts.add(_plain(instruction))

    def is_duplicate(self, instruction: str) -> bool:
        """The same text, but for case and white space."""
        return _plain(instruction) in self._texts

    def is_too_similar(self, instruction: str) -> bool:
        """Whether ROUGE-L with any instruction reaches the threshold."""
        words = self._tokenizer.tokenize(instruction)
        masks = _masks(words)
        for others in self._words:
            longest = min(len(words), len(others))  # a common subsequence is no longer
            if _f_measure(longest, len(words), len(others)) >= self.threshold and (
                _f_measure(_common(masks, len(words), others), len(words), len(others)) >= self.threshold
            ):
                return True
        return False


def rouge_l(target: str, prediction: str) -> float:
    """The ROUGE-L F-measure of two texts, 0 to 1, unstemmed; the number that rouge-score gives."""
    tokenize = DefaultTokenizer(use_stemmer=False).tokenize
    words, others = tokenize(prediction), tokenize(target)
    return _f_measure(_common(_masks(words), len(words), others), len(words), len(others))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _masks(words: list[str]) -> Masks:
    """For each word, the places where it stands, as bits."""
    masks: Masks = {}
    for place, word in enumerate(words):
        masks[word] = masks.get(word, 0) | 1 << place
    return masks


def _common(masks: Masks, length: int, others: list[str]) -> int:
    """Words in the longest common subsequence: the zeros left in the row of bits."""
    every = (1 << length) - 1
    row = every
    for word in others:
        matches = row & masks.get(word, 0)
        row = ((row + matches) | (row - matches)) & every
    return length - row.bit_count()


def _f_measure(common: int, length: int, other_length: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / length, common / other_length
    return 2 * precision * recall / (precision + recall)
