"""The recipe: one small model a block, every key with its type, default and sentence.

The sentences feed the help, the JSON Schema and the reference in the docs. `training` and the LoRA strategies take their
fields from the libraries' own classes (see fields.py); each strategy's keys live in its own class, so that an impossible
pair cannot be written.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from ftkit.errors import UserError
from ftkit.recipe.fields import OWNED_LORA, OWNED_TRAINING, Block, as_boolean, field_model, library_fields
from ftkit.recipe.tasks import TASK_SPECS, TaskSpec

_FIELDS = library_fields()


def _whole_from_one(value: float) -> float:
    if value > 1 and value != int(value):
        raise PydanticCustomError("no_share", "must be a share below 1 or a whole number of rows")
    return value


def _without_repeats(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("repeated", "must name each once")
    return values


def _with_named_groups(pattern: str) -> str:
    try:
        named = re.compile(pattern).groupindex
    except re.error as error:
        raise PydanticCustomError("no_pattern", "must be a regular expression ({why})", {"why": str(error)}) from None
    if not named:
        raise PydanticCustomError("unnamed", "must have named groups, as (?P<label>…)")
    return pattern


Boolean = Annotated[bool, BeforeValidator(as_boolean)]
Share = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False, description="Below 1 a share of the rows, from 1 on a number of rows."),
    AfterValidator(_whole_from_one),
]

Names = Annotated[list[str], AfterValidator(_without_repeats)]

Columns = dict[str, str | Annotated[Names, Field(min_length=2)]]


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _as_sources(value: Any) -> Any:
    return [_as_source(item) for item in value] if isinstance(value, list) else [_as_source(value)]


def _as_strategy(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Model(Block):
    """Which pretrained model is trained."""

    name: str = Field(min_length=1, description="A hub id, or a local folder with config.json, weights and tokenizer.")
    max_length: int | None = Field(
        None,
        ge=8,
        description="Tokens a row may have, default 512 or as many as the model takes; answers are never cut.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="In which precision frozen weights rest; weights that learn are float32 always."
    )
    tokenizer: str | None = Field(None, description="Another tokenizer than the model's own: hub id or local folder.")
    tokenizer_revision: str | None = Field(None, description="Branch, tag or commit of that tokenizer on the hub.")
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="The attention kernel; without it transformers chooses."
    )
    trust_remote_code: Boolean = Field(False, description="Run the model's own code from the hub.")
    stand_in: str | None = Field(
        None, description="The type of the model that --smoke takes in its place, as llama; without it, its own type."
    )


class Full(Block):
    """Every weight learns."""

    name: Literal["full"] = Field(description="Every weight learns.")


class Transfer(Block):
    """The body is frozen and in eval mode; the head, everything after the last transformer block, learns."""

    name: Literal["transfer"] = Field(description="The body is frozen, the head learns.")
    unfreeze_last: int = Field(0, ge=0, description="So many of the last transformer blocks learn too.")
    cache_frozen: Boolean = Field(
        True,
        description="Compute the frozen blocks once for each row and keep what they give in the cache, where the disk has "
        "room; false computes them in every epoch.",
    )


class _LoraFields(field_model("_LoraFields", _FIELDS["lora"], OWNED_LORA, Block)):  # type: ignore[misc]
    """The fields of peft.LoraConfig."""


class Lora(_LoraFields):
    """Low-rank adapters on the layers named by target_modules; the head learns too. Any field of peft.LoraConfig."""

    name: Literal["lora"] = Field(description="Low-rank adapters learn, and the head.")


class QLora(_LoraFields):
    """LoRA over a base whose weights rest in 4 bits (NF4, double quantization). Any field of LoraConfig."""

    name: Literal["qlora"] = Field(description="LoRA over a base in 4-bit NF4.")
    keep_quantized: Boolean = Field(
        True, description="Quantize a base once and keep its 4-bit weights in the cache; false quantizes it in every run."
    )


class Auto(_LoraFields):
    """The strongest of full, lora, qlora and transfer, in this order, that the task allows and that fits memory and time.

    The run's own recipe names the one that was chosen. Any field of peft.LoraConfig: they hold where it is an adapter.
    """

    name: Literal["auto"] = Field(description="The strongest strategy that fits.")
    memory_gib: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="GiB that the run may take; default what the device has free."
    )
    time_hours: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Hours that the training may take, judged by a few measured steps; default any number.",
    )


Strategy = Annotated[Full | Transfer | Lora | QLora | Auto, Field(discriminator="name")]


class Source(Block):
    """Where rows come from."""

    path: str = Field(
        min_length=1,
        description="A hub id, a file (csv, tsv, json, jsonl, parquet, txt, conll; also .gz or in a .zip), a member of "
        "a .zip as rows.zip/test.csv, a glob, a folder, or sample:NAME.",
    )
    name: str | None = Field(None, description="The configuration of a hub data set.")
    split: str | None = Field(
        None,
        description="The split of a hub data set or sample, default train, or test for eval; or those files of a folder or "
        ".zip that are named after it.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub data set.")
    format: Literal["csv", "tsv", "json", "parquet", "text", "conll", "squad"] | None = Field(
        None, description="What a file is, where its name does not tell; json is lines of objects or a list of them."
    )
    header: Names | None = Field(
        None, min_length=1, description="The names of the columns of a csv file that has no header line, as [text, label]."
    )
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="The one character between the columns of a csv file, as ';'."
    )
    quoting: Boolean | None = Field(
        None,
        description="Of a csv file: false reads quotes as plain characters, true lets a quoted field go on for any number "
        "of lines; default, fields that seem to swallow rows are refused.",
    )
    field: str | None = Field(
        None, min_length=1, description="The key under which a JSON file that is one object holds the rows, as data."
    )
    encoding: str = Field("utf-8", description="The encoding of text files, such as latin-1.")
    sample_by: Literal["line", "paragraph", "document"] | None = Field(
        None, description="What a row of a .txt file is; default a line, for language-modeling a paragraph."
    )
    values: dict[str, str] = Field(
        default_factory=dict, description="Columns with one value for every row, such as {label: positive} for a file."
    )
    label_from: Literal["folder", "file"] | None = Field(
        None,
        description="The label of a row is the name of its file, as pos.txt, or of the folder that its file lies in, as "
        "pos/1.txt; of a folder's .txt files each is one row then.",
    )
    columns: Columns = Field(
        default_factory=dict, description="As data.columns, for this source alone, where its columns are called otherwise."
    )
    rows: int | None = Field(None, ge=1, description="Take so many rows, drawn with data.seed; default all.")
    weight: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Share of this source in the mixture, beside those of the list's other sources; no row is taken twice.",
    )


Sources = Annotated[list[Source], BeforeValidator(_as_sources), Field(min_length=1)]


Allowed = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Gate(Block):
    """What may go wrong with the rows, each as a share of a split's rows; beyond it the run is refused before it starts."""

    dropped: Allowed = Field(0.1, description="Rows left out because their answer does not fit into model.max_length.")
    cut_answer: Allowed = Field(0.0, description="Rows whose answer loses its end, with over_long: cut_answer.")
    cut_text: Allowed = Field(
        1.0, description="Rows whose text or prompt loses its end at model.max_length; allowed ones are said as a caveat."
    )
    empty: Allowed = Field(0.0, description="Rows left out because a field is empty; drop_empty allows any number.")
    unknown_label: Allowed = Field(0.0, description="Rows left out because the model does not know their label.")
    no_number: Allowed = Field(0.0, description="Rows left out because their label is no number, in text-regression.")
    lost_text: Allowed = Field(
        0.0,
        description="Rows left out because a text of a supervised turn, a turn that is given, or the definition of a tool "
        "leaves no token under the chat template.",
    )
    unsupervised: Allowed = Field(0.0, description="Rows left out because no token of them is supervised.")
    without_end: Allowed = Field(0.0, description="Rows with an answer that does not end with an end token.")
    double_start: Allowed = Field(0.0, description="Rows that start with two start tokens.")
    unknown_tokens: Allowed = Field(
        0.1, description="Rows of which more than half, or of their answer, is the tokenizer's unknown token."
    )
    overlap: Allowed = Field(
        0.0,
        description="Eval or test rows that are also training rows by what is given to the model: equal, equal but for case "
        "and punctuation or with the texts of a pair swapped, or nearly equal.",
    )
    similarity: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of word triples (of characters in scripts without spaces) from which two rows count "
        "as nearly equal; 1 for equal rows alone.",
    )


class Clean(Block):
    """Steps over all rows before they are split, the last two after it, in this order; each is in data_report.json."""

    unicode: Literal["NFC", "NFKC", "NFD", "NFKD"] | None = Field(None, description="Unicode normal form of the texts.")
    strip: Boolean = Field(False, description="Take white space off both ends of the texts.")
    label_map: dict[str, str] = Field(
        default_factory=dict, description="Labels to other labels, as {pos: positive}; others stay."
    )
    min_characters: int | None = Field(None, ge=1, description="Drop rows with a shorter text.")
    max_characters: int | None = Field(None, ge=1, description="Drop rows with a longer text.")
    duplicates: Literal["exact", "normalised", "near"] | None = Field(
        None,
        description="Drop rows that repeat an earlier one: exact, the whole row; normalised and near, what is given to the "
        "model, but for case and punctuation, or nearly.",
    )
    max_rows_per_label: int | None = Field(
        None, ge=1, description="Keep so many training rows of each label, drawn with data.seed."
    )
    balance: Boolean = Field(False, description="Keep as many training rows of each label as the rarest has.")


class Augment(Block):
    """Changed copies of training rows, drawn with data.seed; the label stays."""

    copies: int = Field(1, ge=1, le=10, description="Copies of each row.")
    operations: list[Literal["swap_words", "drop_words", "typos", "lower"]] = Field(
        ["swap_words", "drop_words", "typos"], min_length=1, description="What changes a copy."
    )


class Data(Block):
    """The rows: where they come from, what their columns mean and how they are split."""

    train: Sources = Field(
        description="Source, or list of sources, of the training rows. On the command line `data.train.rows=200` is of "
        "each of a list, `data.train.0.rows=200` of the first."
    )
    eval: Sources | None = Field(
        None, description="Source of the eval rows; without it they are split off the training rows."
    )
    test: Sources | None = Field(None, description="Source of rows for `ftkit eval --split test`.")
    eval_size: Share = Field(0.1, description="Where eval is absent: share (below 1) or number of rows split off.")
    test_size: Share | None = Field(None, description="Where test is absent: share or number of rows split off.")
    seed: int = Field(42, ge=0, lt=2**32, description="The seed of splits and draws.")
    columns: Columns = Field(
        default_factory=dict,
        description="What the task calls a column: what the data calls it, as {text: review}. Where each label has a column "
        "of 0 and 1, {labels: [praise, blame]}.",
    )
    pattern: Annotated[str, AfterValidator(_with_named_groups)] | None = Field(
        None,
        description="A regular expression for whole lines of text files, whose named groups become columns, as "
        "'(?P<label>\\w+)\\t(?P<text>.*)'.",
    )
    ignore_columns: Names = Field(
        default_factory=list,
        description="Columns that are knowingly not read, as [score], though their name says that they change what a row "
        "means.",
    )
    labels: Names | None = Field(
        None, min_length=2, description="The labels in the order of their ids; default as found, sorted."
    )
    positive_label: str | None = Field(
        None,
        min_length=1,
        description="Of two labels the one whose precision, recall and F1 are reported; default the second of the labels.",
    )
    label_separator: str | None = Field(
        None, min_length=1, description="Several labels in one cell, separated by this: multi-label classification."
    )
    split_column: str | None = Field(
        None, description="A column that says which split a row belongs to: train, eval (or dev, validation) or test."
    )
    group_column: str | None = Field(
        None, description="Rows with the same value here, as one article or patient, go to one side of the split together."
    )
    slice_by: list[str] = Field(
        default_factory=list, description="Further columns, as domain or author, by which errors are analysed."
    )
    drop_overlap: Boolean = Field(
        False, description="Drop training rows that are also eval or test rows, and count them, instead of refusing."
    )
    clean: Clean = Field(default_factory=Clean, description="Steps over all rows before they are split.")
    augment: Augment | None = Field(None, description="Changed copies of the training rows.")
    gate: Gate = Field(default_factory=Gate, description="What may go wrong with the rows before the run is refused.")
    streaming: Boolean = Field(
        False,
        description="Read training rows as they are needed, for sets larger than memory; needs data.eval and max_steps. The "
        "rows that the training will read are read once before step 0 and judged; training rows that are eval rows too are "
        "dropped and counted. To the Trainer the stream is one epoch without an end: evaluate and save by steps.",
    )
    judged_rows: int | None = Field(
        None,
        ge=1,
        description="With streaming: judge only so many rows before step 0; the others are judged as they are read, and a "
        "fault stops the run there.",
    )
    packing: Boolean = Field(
        False,
        description="Put whole training rows together into blocks of max_length, kept apart in attention; plain texts that "
        "are longer become several examples.",
    )
    supervise: Literal["marked", "all", "last"] = Field(
        "marked",
        description="In chats: every turn of the assistant but those marked with weight: 0 or train: false, every turn, or "
        "the last one.",
    )
    reasoning: Literal["learn", "show", "drop"] = Field(
        "learn",
        description="The reasoning of a supervised turn (reasoning_content, or between <think> and </think>) is learnt, "
        "only shown before the answer, or taken out of all turns.",
    )
    tools: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Definitions of the tools of all chats; a row's own, in the column tools, take their place.",
    )
    template_arguments: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], bool | int | float | str] = Field(
        default_factory=dict,
        description="Values that the chat template takes, as {enable_thinking: true}; the saved template has them too.",
    )
    over_long: Literal["cut_prompt", "drop", "cut_answer", "windows", "cut"] | None = Field(
        None,
        description="What is done with rows longer than max_length; default cut_prompt in summarization, windows in "
        "token-classification, else drop. windows reads a long row in parts that overlap, each word where most stands "
        "around it; with cut the words behind the cut count as missed.",
    )
    window_overlap: int | None = Field(
        None, ge=0, description="Tokens that neighbouring windows of a long row share; default a quarter of a window."
    )
    drop_empty: Boolean = Field(False, description="Drop rows with an empty field, and count them, instead of refusing.")
    prompt: str | None = Field(
        None, description="The prompt, with the task's columns in braces, as in 'Summarize:\\n{document}\\nSummary:'."
    )
    chat_template: str | None = Field(
        None, description="A Jinja chat template in place of the tokenizer's own; or alpaca, or chatml."
    )

    @property
    def names_test(self) -> bool:
        """Whether the recipe says where test rows come from; a split column may still name none."""
        return bool(self.test or self.test_size or self.split_column)


class Generation(Block):
    """How answers are generated when a prompted task is measured."""

    rows: int = Field(
        32,
        ge=0,
        description="Generate for so many eval rows, drawn with data.seed, before and after training; 0 for none.",
    )
    max_new_tokens: int = Field(64, ge=1, description="The longest answer, in tokens.")
    num_beams: int = Field(1, ge=1, description="Beams; 1 is greedy.")


class Evaluation(Block):
    """What is measured, before training and after, on the same rows."""

    metrics: Names | None = Field(None, min_length=1, description="Names of metrics; default the task's own.")
    metric_file: str | None = Field(
        None,
        description="A Python file with compute(predictions, references) or an evaluate.Metric, giving numbers by name.",
    )
    baseline: Boolean = Field(True, description="Measure the model before training too.")
    few_shot: int = Field(
        0,
        ge=0,
        le=32,
        description="Also measure the untrained model with so many training rows in its prompt; 0 for not.",
    )
    general_text: str | Literal[False] = Field(
        "sample:text",
        description="Text, as a file or sample:NAME, on which is measured what the model forgets; false for none.",
    )
    rows: int | None = Field(None, ge=1, description="Measure at most so many eval rows.")
    generation: Generation = Field(default_factory=Generation, description="How answers are generated.")
    verify: Boolean = Field(
        True,
        description="When the run ends, load the saved model in a new process, and compare it with that in memory "
        "and its loss with the reported one.",
    )


class Training(field_model("_TrainingFields", _FIELDS["training"], OWNED_TRAINING, Block)):  # type: ignore[misc]
    """Any field of transformers.TrainingArguments."""

    effective_batch_size: int | None = Field(
        None,
        ge=1,
        description="Rows that an optimizer step takes on all devices together where per_device_train_batch_size is auto, "
        "default 32; gradient_accumulation_steps then follows.",
    )
    on_divergence: Literal["stop", "rollback"] = Field(
        "stop",
        description="Where the loss or the gradient norm is no number, or the loss rises far beyond its start: stop with "
        "status 3, or go back to the last good checkpoint with half the learning rate, at most 3 times.",
    )

    @property
    def finds_batch(self) -> bool:
        """Whether the batch is found on the machine."""
        return bool(self.per_device_train_batch_size == "auto")


class Speed(Block):
    """Ways of doing the same in less time and memory; each is on where it is right, and said in run.json."""

    supervised_logits: Boolean = Field(
        True,
        description="A decoder's logits are made where tokens are supervised, some at a time; same loss and gradients.",
    )
    micro_batches: Boolean | None = Field(
        None,
        description="Each batch is computed in parts of rows of like length; same gradient. Default: on a CPU only, where "
        "padding cannot be left out.",
    )
    unpadded: Boolean = Field(
        True,
        description="On a CPU, padding is left out between a model's first block and its last, but for attention; same "
        "loss and gradients.",
    )
    fast_dropout: Boolean = Field(
        True,
        description="On a CPU, the masks of dropout are drawn four at a time and take a byte for each value; other draws of "
        "the same share.",
    )
    fused_gelu: Boolean = Field(
        True,
        description="GELU that a model writes out by its tanh formula, as GPT-2 does, is one operation; same losses up to "
        "rounding.",
    )
    embedding_rows: Boolean = Field(
        True,
        description="On a CPU, embeddings that learn add to their gradient the rows that were looked up, in place of a "
        "whole one each time, and keep it from step to step; same gradient.",
    )
    frozen_bfloat16: Boolean = Field(
        True,
        description="Under lora with bf16, frozen linear layers rest in bfloat16 while training; less memory, and the "
        "losses that autocast gives.",
    )
    fused_adapters: Boolean = Field(
        True,
        description="A frozen linear layer and the LoRA adapter on it are computed as one product; same loss and gradients.",
    )
    flash_attention: Boolean = Field(
        True,
        description="On GPUs since Ampere, in half precision, train with torch's own FlashAttention for rows of any length "
        "(from 2.10 on), else with flash_attn's where it is installed, if the model's loss is the same by it; "
        "model.attn_implementation, where said, stands.",
    )
    liger_kernel: Boolean | None = Field(
        None,
        description="Liger's fused kernels in the model's layers, without those of head and loss. Default: where "
        "liger-kernel (the extra gpu) is installed, a GPU trains and Liger knows the model.",
    )


class Recipe(Block):
    """One complete fine-tuning run."""

    task: Literal[
        "text-classification",
        "text-regression",
        "token-classification",
        "summarization",
        "instruction",
        "language-modeling",
        "masked-language-modeling",
    ] = Field(description="What a row is and what the model outputs.")
    model: Annotated[Model, BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)] = Field(
        description="Which pretrained model."
    )
    strategy: Annotated[Strategy, BeforeValidator(_as_strategy)] = Field(description="Which parameters learn.")
    data: Data = Field(description="The rows.")
    training: Training = Field(default_factory=Training, description="Any field of transformers.TrainingArguments.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="What is measured.")
    speed: Speed = Field(default_factory=Speed, description="What makes it fast.")

    @property
    def spec(self) -> TaskSpec:
        """What the recipe's task takes."""
        return TASK_SPECS[self.task]

    @property
    def generates(self) -> bool:
        """Whether the task is also measured by generated text."""
        return "evaluation.generation" in self.spec.keys

    _places: dict[str, str] = PrivateAttr(default_factory=dict)
    _source: str = PrivateAttr("recipe")
    _overrides: list[str] = PrivateAttr(default_factory=list)
    _pins: list[Mapping[str, Any]] = PrivateAttr(default_factory=list)

    @property
    def overrides(self) -> list[str]:
        """The `key.path=value` of the command line that are in the recipe."""
        return self._overrides

    @property
    def pins(self) -> list[Mapping[str, Any]]:
        """Which commits stand in it in place of which revisions, see `ftkit.hub.pins`."""
        return self._pins

    def keep_pins(self, pins: Iterable[Mapping[str, Any]]) -> None:
        """Remember them; of a commit that is known the first stays, which says what was asked for."""
        known = [(pin["name"], pin["kind"], pin["commit"]) for pin in self._pins]
        new = [pin for pin in pins if (pin["name"], pin["kind"], pin["commit"]) not in known]
        self._pins = [*self._pins, *new]

    @property
    def source(self) -> str:
        """The file that the recipe was read from, or a name where there is none."""
        return self._source

    @contextmanager
    def located(self) -> Iterator[None]:
        """Errors of the block that name a recipe key get its place in the file."""
        try:
            yield
        except UserError as error:
            error.place = error.place or (self.place(error.key) if error.key else "")
            raise

    def place(self, key: str) -> str:
        """The `file:line:column` of a dotted key, or of the nearest part of it that the file says."""
        while key and key not in self._places:
            key = key.rpartition(".")[0]
        return self._places.get(key, "")
