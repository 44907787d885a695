"""Talking to a run's model: an answer is written as it is generated, from the prompt or template of training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TextStreamer, set_seed

from ftkit.compat import without_router_loss
from ftkit.data.ledger import Outcome
from ftkit.errors import UserError
from ftkit.evaluation.generation import room_for_answer
from ftkit.prediction.trained import MESSAGES, Question, Trained
from ftkit.recipe.schema import Recipe
from ftkit.signals import Stopped

Write = Callable[[str], None]


def require_generating(recipe: Recipe) -> None:
    """Raises UserError where a run's task writes no text."""
    if not recipe.generates:
        message = f"a run of {recipe.task} writes no text, so there is nothing to talk to"
        raise UserError(message, "use `ftkit predict RUN FILE`")


@dataclass(frozen=True)
class Answer:
    """How an answer ended.

    Attributes:
        stopped: by itself, not by its length or an interruption.
        forgotten: turns at the beginning of the chat that no longer fitted into the prompt.
    """

    text: str
    stopped: bool
    interrupted: bool
    forgotten: int


class Conversation:
    """Questions to a run's model, with the turns before where it was trained on chats.

    Attributes:
        remembers: whether earlier turns are in the prompt; a run trained on prompts takes each question by itself.
    """

    def __init__(self, trained: Trained, *, temperature: float, seed: int) -> None:
        self.trained = trained
        self.temperature = temperature
        self.remembers = trained.text_role == MESSAGES
        self.system = ""
        self.turns: list[dict[str, str]] = []
        set_seed(seed)

    def reset(self) -> None:
        """Forget the turns; the system message stays."""
        self.turns = []

    def reply(self, text: str, write: Write) -> Answer:
        """Answer a question; Ctrl-C ends the answer where it is.

        Args:
            write: takes the answer piece by piece.

        Raises:
            UserError: the question alone is too long.
        """
        question, forgotten = self._ask(text)
        prompt, ends = self.trained.prompt(question)
        stops = sorted(ends | {self.trained.tokenizer.eos_token_id})
        stream = AnswerStream(self.trained.tokenizer, write, stops)
        interrupted = stopped = False
        try:
            with torch.inference_mode():
                stopped = self._generate(prompt, stops, stream)
        except Stopped:
            raise
        except KeyboardInterrupt:
            interrupted = True
            stream.end()
        if self.remembers:
            answered = {"role": "assistant", "content": stream.text.strip()}
            self.turns += [{"role": "user", "content": text}, *([answered] if answered["content"] else [])]
        return Answer(stream.text.strip(), stopped, interrupted, forgotten)

    def _ask(self, text: str) -> tuple[Question, int]:
        """The question with as many turns before it as fit, and how many were left out."""
        if not self.remembers:
            return require_fitting(self.trained.encode(self.trained.as_row(text))), 0
        first = [{"role": "system", "content": self.system}] if self.system else []
        forgotten = 0
        while True:
            question = self.trained.encode({MESSAGES: [*first, *self.turns, {"role": "user", "content": text}]})
            if question.outcome is not Outcome.TOO_LONG or not self.turns:
                return require_fitting(question), forgotten
            following = [turn["role"] for turn in self.turns[1:]]
            count = following.index("user") + 1 if "user" in following else len(self.turns)  # a question and its answer
            self.turns, forgotten = self.turns[count:], forgotten + count

    def _generate(self, prompt: list[int], stops: list[int], stream: "AnswerStream") -> bool:
        """Whether the answer ended by itself."""
        model, sampled = self.trained.model, self.temperature > 0
        with without_router_loss(model):
            output = model.generate(
                input_ids=torch.tensor([prompt], device=model.device),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=model.device),
                max_new_tokens=room_for_answer(model, len(prompt), self.trained.generation),
                do_sample=sampled,
                use_cache=True,
                eos_token_id=stops,
                pad_token_id=self.trained.tokenizer.pad_token_id,
                streamer=stream,
                **({"temperature": self.temperature} if sampled else {}),
            )
        return int(output[0, -1]) in stops


def require_fitting(question: Question) -> Question:
    """Raises UserError where a question cannot be answered."""
    if question.entries:
        return question
    if question.outcome is Outcome.TOO_LONG:
        raise UserError("this is longer than the model was trained on", "say it in fewer words")
    if question.outcome is Outcome.LOST_TEXT:
        raise UserError("something of it leaves no token under the chat template", "say it without a system message")
    raise UserError("there is nothing in it")


class AnswerStream(TextStreamer):
    """Hands an answer on as whole words, less the token that ends it, and keeps it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, write: Write, stops: list[int]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write, self.text, self.stops = write, "", stops

    def put(self, value: torch.Tensor) -> None:
        if self.next_tokens_are_prompt or value.flatten().tolist()[-1] not in self.stops:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> Any:
        piece = text if self.text else text.lstrip()
        self.text += piece
        self.write(piece)
