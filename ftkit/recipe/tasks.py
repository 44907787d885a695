"""What each task takes: its columns, metrics and strategies. How it is done stands in ftkit/tasks/, one file a task.

This half imports nothing, so that a recipe is checked before torch is loaded.
"""

from dataclasses import dataclass, field

STRATEGY_NAMES = ("full", "transfer", "lora", "qlora")
WITHOUT_NEW_HEAD = ("full", "lora", "qlora")


@dataclass(frozen=True)
class Format:
    """One shape of a row: the roles that must be there, those that may, and what the format is called."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        return self.required + self.optional


@dataclass(frozen=True)
class TaskSpec:
    """What may stand in a recipe of one task.

    Attributes:
        about: one sentence for the help and the reference.
        formats: the shapes of a row, the first that fits is taken.
        metrics: valid names, each with whether higher is better; `default_metrics` are those measured if none is named.
        strategies: those that make sense; `transfer` needs a task whose model gets a new head.
        over_long: what may be done with rows that are too long, the default first; nothing where there is no choice.
        keys: optional keys, as `block.key`, that have an effect in this task and not in every other one.
        sample: the packaged sample that stands in for the data in a smoke run.
        sample_by: what a row of a .txt file is: a line or a paragraph.
        list_roles: roles that take a list of columns.
        list_texts: roles whose cells may be the texts of lists, as "['a', 'b']".
        smoke_steps: how long a stand-in is trained in a smoke run.
    """

    about: str
    formats: tuple[Format, ...]
    metrics: dict[str, bool]
    default_metrics: tuple[str, ...]
    sample: str
    strategies: tuple[str, ...] = WITHOUT_NEW_HEAD
    over_long: tuple[str, ...] = ()
    keys: frozenset[str] = field(default_factory=frozenset)
    sample_by: str = "line"
    smoke_steps: int = 150
    list_roles: tuple[str, ...] = ()
    list_texts: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """The names that `data.columns` may map, without repeats."""
        return (*dict.fromkeys(role for form in self.formats for role in form.roles), *self.list_roles)


_CLASSIFICATION_METRICS = dict.fromkeys(
    (
        "accuracy",
        "f1",
        "f1_micro",
        "f1_macro",
        "f1_weighted",
        "precision",
        "precision_micro",
        "precision_macro",
        "recall",
        "recall_micro",
        "recall_macro",
        "matthews_correlation",
        "roc_auc",
    ),
    True,
) | {"calibration_error": False}
_LOSS_METRICS = {"loss": False, "perplexity": False}
_TEXT_LOSS_METRICS = _LOSS_METRICS | {"bits_per_byte": False}
TEXT_METRICS = dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "exact_match", "token_f1"), True)
# Of generated text, always measured; of a ratio neither more nor less is better.
HEALTH_METRICS = {"stop_rate": True, "empty_rate": False, "repetition": False, "length_ratio": None}
_GENERATION_KEYS = frozenset(
    {"data.prompt", "data.streaming", "data.over_long", "data.packing", "evaluation.generation", "evaluation.few_shot"}
)
BESIDE_CHATS = ("system", "history", "tools")  # columns that make a chat of a row

TASK_SPECS: dict[str, TaskSpec] = {
    "text-classification": TaskSpec(
        about="One label of two or more, or several labels at once, for a text or a pair of texts.",
        formats=(Format("text and label", ("text", "label"), ("text_pair",)),),
        metrics=_CLASSIFICATION_METRICS | {"loss": False},
        default_metrics=("accuracy", "f1"),
        sample="sentiment",
        smoke_steps=220,
        strategies=STRATEGY_NAMES,
        keys=frozenset({"data.labels", "data.positive_label", "data.label_separator", "data.augment", "data.streaming"}),
        list_roles=("labels",),
        list_texts=("label",),
    ),
    "text-regression": TaskSpec(
        about="One number, as a rating or a similarity, for a text or a pair of texts.",
        formats=(Format("text and label", ("text", "label"), ("text_pair",)),),
        metrics={"mse": False, "mae": False, "r2": True, "pearson": True, "spearman": True, "loss": False},
        default_metrics=("mse", "mae", "pearson", "spearman"),
        sample="ratings",
        smoke_steps=300,
        strategies=STRATEGY_NAMES,
        keys=frozenset({"data.augment", "data.streaming"}),
    ),
    "token-classification": TaskSpec(
        about="One tag a word, as of named entities; rows are lists of words with as many tags.",
        formats=(Format("tokens and tags", ("tokens", "tags")),),
        metrics=dict.fromkeys(("f1", "f1_macro", "precision", "recall", "accuracy"), True) | {"loss": False},
        default_metrics=("f1", "accuracy"),
        sample="entities",
        strategies=STRATEGY_NAMES,
        over_long=("windows", "cut", "drop"),
        keys=frozenset({"data.labels", "data.streaming", "data.over_long", "data.window_overlap"}),
        list_texts=("tokens", "tags"),
        smoke_steps=200,
    ),
    "summarization": TaskSpec(
        about="A summary of a document, by prompt for decoder-only models or by encoder and decoder.",
        formats=(Format("document and summary", ("document", "summary")),),
        metrics=TEXT_METRICS | _TEXT_LOSS_METRICS,
        default_metrics=("rouge1", "rouge2", "rougeL", "loss"),
        sample="dialogues",
        smoke_steps=80,
        over_long=("cut_prompt", "drop", "cut_answer"),
        keys=_GENERATION_KEYS,
    ),
    "instruction": TaskSpec(
        about="An answer to an instruction, a prompt or a chat; only the answer is supervised.",
        formats=(
            Format("alpaca", ("instruction", "output"), ("input", *BESIDE_CHATS)),
            Format("prompt-completion", ("prompt", "completion"), BESIDE_CHATS),
            Format("chat", ("messages",), BESIDE_CHATS),
        ),
        metrics=TEXT_METRICS | _TEXT_LOSS_METRICS,
        default_metrics=("exact_match", "rougeL", "loss"),
        sample="instructions",
        smoke_steps=320,
        over_long=("drop", "cut_answer"),
        keys=_GENERATION_KEYS
        | {"data.chat_template", "data.supervise", "data.reasoning", "data.tools", "data.template_arguments"},
    ),
    "language-modeling": TaskSpec(
        about="The next token of plain text, for adapting a decoder to a domain.",
        formats=(Format("text", ("text",)),),
        metrics=_TEXT_LOSS_METRICS,
        default_metrics=("loss", "perplexity", "bits_per_byte"),
        sample="text",
        sample_by="paragraph",
        keys=frozenset({"data.packing", "data.streaming"}),
    ),
    "masked-language-modeling": TaskSpec(
        about="The hidden tokens of plain text, for adapting an encoder to a domain.",
        formats=(Format("text", ("text",)),),
        metrics=_LOSS_METRICS,
        default_metrics=("loss", "perplexity"),
        sample="text",
        sample_by="paragraph",
        keys=frozenset({"data.streaming"}),
    ),
}
