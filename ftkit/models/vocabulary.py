"""Is a loaded tokenizer the model's? transformers makes an empty one where the files of one cannot be had."""

from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit.errors import UserError
from ftkit.hub.cache import commit_of, files_known, snapshot
from ftkit.hub.names import Repository, is_hub_id
from ftkit.models.architecture import text_field

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
FEW = 8  # tokens beside the special ones: they are looked at one by one
SPARE = 256  # entries that an embedding of any size may have beyond its tokenizer
LEAST_SHARE = 0.5  # of the embedding that a tokenizer fills; those of models as they are published fill 0.95 and more
SHOWN = 5


def require_vocabulary(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str, revision: str | None, key: str
) -> None:
    """Make sure that a tokenizer can tell texts apart, and could be that of the model.

    Raises:
        UserError: it has no words, far fewer tokens than the model, or ids beyond the model's.
    """
    entries, tokens = text_field(config, "vocab_size"), len(tokenizer)
    if not has_words(tokenizer):
        shown = ", ".join(sorted(tokenizer.get_vocab())[:SHOWN])
        what = f"the tokenizer of {name} has no words, only special tokens: {shown}{', …' * (tokens > SHOWN)}"
        raise UserError(what, lack_of_files(name, revision), key=key)
    if not isinstance(entries, int):  # a model that looks up characters by their hash, or has two vocabularies
        return
    if tokens < LEAST_SHARE * entries and entries - tokens > SPARE:
        what = f"the tokenizer of {name} has {tokens:,} tokens, the model {entries:,}: it is not whole, or another model's"
        raise UserError(what, lack_of_files(name, revision), key=key)
    require_ids(tokenizer, entries)


def require_ids(tokenizer: PreTrainedTokenizerBase, entries: float) -> None:
    """Raises UserError where the tokenizer has ids that the model's embedding has no entry for."""
    highest = max(tokenizer.get_vocab().values(), default=0) if entries < float("inf") else 0
    if max(len(tokenizer), highest + 1) > entries:
        message = f"the tokenizer has {len(tokenizer)} tokens with ids up to {highest}, the model {entries} entries"
        raise UserError(message, "use the tokenizer that the model was trained with", key="model.tokenizer")


def has_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether there is any token for texts: a letter, a digit or a byte, beside special tokens and marks of spaces."""
    special = {*tokenizer.all_special_ids} | {
        number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    if len(tokenizer) - len(special) > FEW:
        return True
    words = [word for word, number in tokenizer.get_vocab().items() if number not in special]
    return any(character.isalnum() for word in words for character in word)


def has_files(name: str, revision: str | None) -> bool | None:
    """Whether a folder or repository has files of a tokenizer; None where nobody knows, as the hub was not asked."""
    if not is_hub_id(name):
        return any((Path(name) / file).is_file() for file in TOKENIZERS)
    repository = Repository(name, "model", revision)
    folder, commit = snapshot(repository), commit_of(repository)
    if folder is not None and any((folder / file).is_file() for file in TOKENIZERS):
        return True
    files = files_known(repository, commit) if commit else None
    return None if files is None or set(TOKENIZERS) & set(files) else False


def lack_of_files(name: str, revision: str | None) -> str:
    """What to do about a tokenizer that is none, by whether its files are there."""
    other = "set model.tokenizer to the model that has it"
    match has_files(name, revision):
        case True:
            return f"take the one that the model was trained with: mend its files, or {other}"
        case False:
            return f"there are no files of one (as tokenizer.json): {other}"
    return f"its files are not in the cache: fetch them when the hub can be reached, or {other}"
