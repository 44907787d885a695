"""The tasks by name; what each takes stands in ftkit/recipe/tasks.py."""

from collections.abc import Callable

from ftkit.recipe.schema import Data
from ftkit.tasks.base import Task
from ftkit.tasks.instruction import Instruction
from ftkit.tasks.language_modeling import LanguageModeling
from ftkit.tasks.masked_language_modeling import MaskedLanguageModeling
from ftkit.tasks.summarization import Summarization
from ftkit.tasks.text_classification import TextClassification
from ftkit.tasks.text_regression import TextRegression
from ftkit.tasks.token_classification import TokenClassification

TASKS: dict[str, Callable[[Data], Task]] = {
    "text-classification": TextClassification,
    "text-regression": TextRegression,
    "token-classification": TokenClassification,
    "summarization": Summarization,
    "instruction": Instruction,
    "language-modeling": LanguageModeling,
    "masked-language-modeling": MaskedLanguageModeling,
}
