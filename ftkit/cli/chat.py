"""`ftkit chat`: talk to a run's model."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import UserError
from ftkit.escapes import visible
from ftkit.run import finished_run
from ftkit.signals import Stopped

if TYPE_CHECKING:
    from ftkit.prediction.chat import Answer, Conversation

EXAMPLES = """[bold]Examples[/bold]

ftkit chat runs/gpt2_instruction

ftkit chat runs/gpt2_instruction --temperature 0.8 --seed 1 --max-new-tokens 200

echo "Name three colours." | ftkit chat runs/gpt2_instruction
"""
HELP = "/exit leaves, as Ctrl-D does; /reset forgets the turns; /system TEXT sets the system message; Ctrl-C stops an answer"
PROMPT = "> "


def chat(
    run: Path = typer.Argument(
        ..., metavar="RUN", help="A finished run's folder, or OWNER/NAME on the hub.", show_default=False
    ),
    max_new_tokens: int | None = typer.Option(None, "--max-new-tokens", help="The longest answer. (default: the recipe's)"),
    temperature: float = typer.Option(0.0, "--temperature", help="Of sampling; 0 takes the likeliest token."),
    seed: int = typer.Option(42, "--seed", help="Of sampling."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Talk to a run's model, in the prompt or chat template that it was trained with; answers appear as they are made."""
    console.set_quiet(quiet)
    if not 0 <= temperature < float("inf"):
        raise UserError(f"no temperature is {temperature}", "give 0 or more", "--temperature")
    if not 0 <= seed < 2**32:
        raise UserError(f"{seed} is no seed", "give a whole number from 0 on, below 2**32", "--seed")
    finished = finished_run(run)
    with loading_libraries():
        from ftkit import api  # torch and transformers

    talk = api.conversation(
        finished, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, trust_code=trust_code
    )
    console.say(greeting(talk))
    console.say(HELP)
    for line in typed_lines() if sys.stdin.isatty() else piped_lines():
        if line == "/exit":
            break
        try:
            respond(talk, line)
        except UserError as error:
            console.show_error(error)


def greeting(talk: "Conversation") -> str:
    """What is remembered from turn to turn, which depends on how the run was trained."""
    if talk.remembers:
        return "a chat in the template of training, each answer given in view of the turns before it"
    role = talk.trained.text_role
    return f"each message fills in '{role}' of the prompt of training, and is answered by itself: turns before are not seen"


def respond(talk: "Conversation", line: str) -> None:
    """Do what a line says: a command, or a question."""
    name, _, rest = line.partition(" ")
    if command := COMMANDS.get(name):
        command(talk, rest.strip())
    elif line.startswith("/"):
        raise UserError(f"no command {name}", HELP)
    else:
        answer = talk.reply(line, write)
        write("\n")
        say_how_it_ended(talk, answer)


def write(text: str) -> None:
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def say_how_it_ended(talk: "Conversation", answer: "Answer") -> None:
    if answer.forgotten:
        console.say(f"({answer.forgotten} earlier turns no longer fit, and are forgotten)")
    if answer.interrupted:
        console.say("(stopped)")
    elif not answer.stopped:
        console.say(
            f"(cut at {talk.trained.generation.max_new_tokens} tokens, or where the model ends; see --max-new-tokens)"
        )


def show_help(talk: "Conversation", rest: str) -> None:
    console.say(HELP)


def reset(talk: "Conversation", rest: str) -> None:
    require_memory(talk)
    talk.reset()
    console.say("(the turns are forgotten)")


def set_system(talk: "Conversation", rest: str) -> None:
    require_memory(talk)
    talk.system = rest
    console.say("(the system message is set)" if rest else "(no system message)")


def require_memory(talk: "Conversation") -> None:
    """Raises UserError where a run's prompt has neither turns nor a system message."""
    if not talk.remembers:
        raise UserError("this has no effect", "the run was trained on prompts, which have no turns and no system message")


COMMANDS: dict[str, Callable[["Conversation", str], None]] = {"/help": show_help, "/reset": reset, "/system": set_system}


def piped_lines() -> Iterator[str]:
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    return (line.strip() for line in sys.stdin if line.strip())


def typed_lines() -> Iterator[str]:
    """Lines as they are typed, with the keys of a shell where there is readline; Ctrl-D ends them."""
    enable_line_editing()
    while True:
        try:
            line = input(PROMPT).strip()
        except Stopped:
            raise
        except KeyboardInterrupt:
            console.say("\n(Ctrl-D or /exit leaves)")
            continue
        except EOFError:
            write("\n")
            return
        if line:
            yield line


def enable_line_editing() -> None:
    try:
        import readline  # noqa: F401  its import is what input() heeds
    except ImportError:  # Windows has none
        return
