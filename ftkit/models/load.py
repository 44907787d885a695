"""Config, tokenizer and weights of a pretrained model, from a local folder or the hub; a clear line where they lack."""

import math
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError, StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME

from ftkit import console
from ftkit.compat import answer_in_autocast, keep_4bit_weights
from ftkit.data.paths import locate
from ftkit.errors import FtkitError, UserError
from ftkit.hub.door import fetch_weights
from ftkit.hub.names import TOKENIZER_KEY, Repository, is_hub_id
from ftkit.hub.reasons import reason_of
from ftkit.models.architecture import text_configs, trusted, usable_positions, word_embedding
from ftkit.models.as_loaded import remember_config, remember_drawn, remember_tokenizer
from ftkit.models.label_head import Head, label_tensors, settle_head
from ftkit.models.vocabulary import TOKENIZERS, has_files, lack_of_files, require_ids, require_vocabulary
from ftkit.recipe.schema import Model

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")
DEFAULT_MAX_LENGTH = 512
TRUST_HINT = "read its code, and set model.trust_remote_code: true where you trust it"


def require_files(name: str, patterns: tuple[str, ...], what: str, key: str) -> None:
    """Raises UserError where a local folder holds none of the files."""
    folder = Path(name)
    if folder.is_dir() and not any(file for pattern in patterns for file in folder.glob(pattern)):
        hint = "name a complete model folder" + (", or set model.tokenizer" if patterns is TOKENIZERS else "")
        raise UserError(f"{name} holds no {what}", f"{hint}; looked for {', '.join(patterns)}", key=key)


def require_weights(block: Model) -> None:
    """Raises UserError where the model's folder holds no weights; of a repository on the hub the door has looked."""
    require_files(locate(block.name), WEIGHTS, "weights", "model.name")


def refused(name: str, revision: str | None, key: str, error: Exception, what: str = "") -> UserError:
    """What a library has against a model, by its reason where that is the hub's."""
    if is_hub_id(name):
        return reason_of(error, Repository(name, "model", revision, key))
    return UserError(f"{what}{name}: {first_line(error)}", key=key)


def has_weights(block: Model) -> bool:
    """Whether the model's weights are on this machine, in its folder or in the hub's cache."""
    try:
        folder = weights_folder(block)
    except LocalEntryNotFoundError:
        return False
    return any(file for pattern in WEIGHTS for file in folder.glob(pattern))


def weights_folder(block: Model) -> Path:
    """The model's folder, or that of the hub's cache.

    Raises:
        LocalEntryNotFoundError: it is in neither.
    """
    name = locate(block.name)
    if Path(name).is_dir():
        return Path(name)
    found = try_to_load_from_cache(name, CONFIG_NAME, revision=block.revision)  # the rest of a repository may be missing
    if not isinstance(found, str):
        raise LocalEntryNotFoundError(f"{name} is not in the cache")
    return Path(found).parent


def load_config(block: Model, values: dict[str, Any]) -> PretrainedConfig:
    """The model's config with the task's values in it.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    name = locate(block.name)
    require_files(name, ("config.json",), "config.json", "model.name")
    try:
        config = AutoConfig.from_pretrained(
            name, revision=block.revision, trust_remote_code=block.trust_remote_code, **values
        )
    except StrictDataclassError as error:
        words = " ".join(str(error).split())[:300]  # of its first line one learns nothing
        raise UserError(f"{block.name}: its config.json does not hold: {words}", "mend it", key="model.name") from error
    except Exception as error:  # of files of others a library raises whatever it stumbles over
        if "trust_remote_code" in str(error):
            raise UserError(f"{block.name}: {first_line(error)}", TRUST_HINT, key="model.name") from error
        raise refused(name, block.revision, "model.name", error) from error
    return trusted(config, trust=block.trust_remote_code)


def load_tokenizer(block: Model) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token: its own, or else its end token or another (padding is masked by position).

    Raises:
        UserError: there is none, it cannot be read, or it cannot be that of the model.
    """
    key = TOKENIZER_KEY if block.tokenizer else "model.name"
    name = locate(block.tokenizer or block.name, key)
    require_files(name, TOKENIZERS, "tokenizer", key)
    revision = block.tokenizer_revision if block.tokenizer else block.revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=block.trust_remote_code)
    except Exception as error:  # as above
        if not has_files(name, revision):
            raise UserError(f"{name}: no tokenizer can be made", lack_of_files(name, revision), key=key) from error
        raise refused(name, revision, key, error, "the tokenizer of ") from error
    require_vocabulary(tokenizer, load_config(block, {}), name, revision, key)
    remember_tokenizer(tokenizer)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = stand_in_for_padding(tokenizer)
    return tokenizer


def stand_in_for_padding(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that says least of a text: one for its end, for what is unknown, for anything special, or the rarest.

    A decoder's head for classes reads the last token that is not padding: it is to be one that texts seldom end with.
    """
    special = (tokenizer.eos_token, tokenizer.unk_token, *tokenizer.all_special_tokens)
    found = next((token for token in special if token), None) or tokenizer.convert_ids_to_tokens(len(tokenizer) - 1)
    return str(found)


def load_base(
    auto_class: Any,
    block: Model,
    config: PretrainedConfig,
    *,
    new_head: bool,
    head: Head | None = None,
    keep_quantized: bool = False,
    **arguments: Any,
) -> PreTrainedModel:
    """The pretrained weights, with a fresh head where the checkpoint has none that fits.

    Args:
        new_head: the model gives labels or a number; where the checkpoint has no such head, it is drawn without a word.
        head: whether that of the checkpoint is kept; without it whatever fits is.
        keep_quantized: 4-bit weights are quantized once and kept in the cache.
        arguments: what the strategy needs of `from_pretrained`, as dtype and quantization_config.

    Raises:
        UserError: there are no weights, they cannot be read, or the architecture does not do the task.
    """
    name = locate(block.name)
    require_weights(block)
    fetch_weights(block)
    options = {"revision": block.revision, "trust_remote_code": block.trust_remote_code} | arguments
    if block.attn_implementation:
        options["attn_implementation"] = block.attn_implementation
    try:
        options |= {"config": config, "ignore_mismatched_sizes": new_head, "output_loading_info": True}
        with drawing_apart() if "quantization_config" in options else nullcontext():
            if keep_quantized:
                model, info = load_kept(auto_class, block, name, options, head)
            else:
                model, info = auto_class.from_pretrained(name, **options)
    except ImportError as error:
        raise UserError(first_line(error), "install what it names", key="model") from error
    except MemoryError as error:
        raise UserError(
            f"{block.name} does not fit into memory", "choose a smaller model, or strategy qlora", key="model.name"
        ) from error
    except FtkitError:
        raise
    except Exception as error:  # of files of others a library raises whatever it stumbles over
        if lacks_memory(error):
            raise
        raise unreadable(name, block.revision, error) from error
    keep_4bit_weights(model)
    answer_in_autocast(model)
    remember_config(model)
    if head is not None:
        settle_head(auto_class, config, model, head, drawn_names(info), anew="quantization_config" in options)
    if missing := [] if new_head else sorted(info["missing_keys"]):
        remember_drawn(model, missing)
        console.warn(f"{block.name} lacks {len(missing)} weights, which start at random: {', '.join(missing[:3])}, …")
    return model


def unreadable(name: str, revision: str | None, error: Exception) -> UserError:
    """Why weights could not be loaded, by what loading them raised."""
    if isinstance(error, pickle.UnpicklingError):
        message = f"the weights of {name} are a pickle that holds more than tensors, or is damaged; it is not run"
        return UserError(message, "use a model with .safetensors, or convert this one where you trust it", key="model.name")
    if isinstance(error, SafetensorError | EOFError | struct.error):
        return UserError(f"the weights of {name} are damaged: {first_line(error)}", "fetch them again", key="model.name")
    return refused(name, revision, "model.name", error)


@contextmanager
def drawing_apart() -> Iterator[None]:
    """What is drawn after the block does not hang on how much is drawn in it: quantizing draws more than reading does."""
    seed = int(torch.randint(2**63 - 1, ()))
    yield
    torch.manual_seed(seed)


def drawn_names(info: dict[str, Any]) -> set[str]:
    """The weights that the checkpoint lacks or has in another shape, by what its loading says."""
    return {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}


def load_kept(
    auto_class: Any, block: Model, name: str, options: dict[str, Any], head: Head | None
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A quantized model and what its loading says, from the cache where an earlier run left it there."""
    from ftkit.models.quantized import forget_reading, kept_base  # it brings bitsandbytes

    own_head = head is not None and head.kept
    kept = kept_base(auto_class, block, options, own_head=own_head)
    if kept is not None and kept.is_there:
        plain = {key: value for key, value in options.items() if key not in ("quantization_config", "revision")}
        kept.mark_used()
        try:
            model, info = auto_class.from_pretrained(kept.folder, **(plain | {"config": kept.config(options["config"])}))
            forget_reading(model)
            model.name_or_path = model.config.name_or_path = name  # by which an adapter names its base
            return model, info
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            if lacks_memory(error):
                raise
            console.warn(f"the kept 4-bit weights cannot be read, and are made again: {first_line(error)}")
            kept.discard()
    model, info = auto_class.from_pretrained(name, **options)
    if (kept := kept_base(auto_class, block, options, own_head=own_head)) is not None:  # by now the checkpoint is fetched
        drawn = drawn_names(info)
        if head is not None and not own_head:  # it was read where it fits, for as many labels as there happen to be
            drawn |= label_tensors(auto_class, options["config"])
        kept.keep(model, drawn)
    return model, info


def load_plain(auto_class: Any, folder: Path, block: Model, **options: Any) -> PreTrainedModel:
    """A folder that ftkit has written, as plain transformers loads it."""
    model: PreTrainedModel = auto_class.from_pretrained(folder, trust_remote_code=block.trust_remote_code, **options)
    return model


def fit_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model know the pad token, and refuse a tokenizer with more tokens than the model has.

    Raises:
        UserError: the tokenizer's ids go beyond the model's embedding.
    """
    for config in (model.config, *text_configs(model.config)):
        config.pad_token_id = tokenizer.pad_token_id
    if model.can_generate():
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    embedding = word_embedding(model)
    entries = math.inf if embedding is None else embedding.weight.shape[0]  # type: ignore[union-attr, operator]
    require_ids(tokenizer, entries)


def usable_length(auto_class: Any, block: Model, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens a row may have: as the recipe says, and no more than the model has positions.

    Raises:
        UserError: the recipe names a length that the model cannot take.
    """
    positions = usable_positions(auto_class, config, block.max_length or DEFAULT_MAX_LENGTH)
    limit = min(value for value in (positions, tokenizer.model_max_length, 10**9) if value)
    if block.max_length is None:
        return min(DEFAULT_MAX_LENGTH, int(limit))
    if block.max_length > limit:
        message = f"max_length {block.max_length} is more than the {limit} positions of this model"
        raise UserError(message, f"set it to {limit} or less", key="model.max_length")
    return block.max_length


def takes_longer(auto_class: Any, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, length: int) -> bool:
    """Whether rows of more tokens than `length` could be given to the model."""
    return usable_positions(auto_class, config, length + 1) > length and tokenizer.model_max_length > length


def first_line(error: BaseException) -> str:
    """The first sentence of a library's message."""
    return " ".join(str(error).strip().split("\n")[0].split())[:300] or type(error).__name__


def torch_dtype(name: str) -> torch.dtype:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def lacks_memory(error: Exception) -> bool:
    """Whether an error is memory that ran out, on a GPU or in torch's allocator of a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
