"""`ftkit synth`: instruction rows made from seed rows, as in Self-Instruct (Wang et al. 2022)."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import UserError
from ftkit.hub.door import looked_up, pinned_model
from ftkit.hub.names import Repository, names_dataset
from ftkit.recipe.schema import Model

if TYPE_CHECKING:
    from ftkit.synthesis.generators import EndpointGenerator, LocalGenerator
    from ftkit.synthesis.synthesize import Settings

INTERRUPTED = 130
EXAMPLES = """[bold]Examples[/bold]

ftkit synth seed_tasks.jsonl --output rows.jsonl --rows 1000 --model ./my-model

ftkit synth alpaca.json --output rows.jsonl --rows 1000 --endpoint http://localhost:8000/v1 --endpoint-model my-model

ftkit synth seed_tasks.jsonl --output rows.jsonl --rows 1000 --model ./my-model --resume
"""


def synth(
    seeds: str = typer.Argument(
        metavar="SEEDS", help="Instruction rows: file, glob, folder, hub id or sample:NAME.", show_default=False
    ),
    output: Path = typer.Option(..., "--output", help="The file of JSON lines to write; its log goes to FILE.rounds."),
    rows: int = typer.Option(..., "--rows", help="How many rows to make."),
    model: str | None = typer.Option(None, "--model", help="A model folder or a hub id, to generate here."),
    endpoint: str | None = typer.Option(
        None, "--endpoint", help="The address of a service with OpenAI's protocol; its key is taken from OPENAI_API_KEY."
    ),
    endpoint_model: str | None = typer.Option(None, "--endpoint-model", help="The model's name at the service."),
    shots: int = typer.Option(6, "--shots", help="Rows shown in a prompt, a quarter of them made before."),
    temperature: float = typer.Option(0.8, "--temperature", help="Of sampling; 0 takes the likeliest token."),
    max_new_tokens: int = typer.Option(256, "--max-new-tokens", help="The longest answer, of about two rows."),
    novelty: float = typer.Option(0.7, "--novelty", help="Reject an instruction with this ROUGE-L or more with another."),
    seed: int = typer.Option(42, "--seed", help="Of drawing and sampling."),
    patience: int = typer.Option(20, "--patience", help="Stop after so many rounds without a new row."),
    resume: bool = typer.Option(False, "--resume", help="Go on from what is in the output."),
    quiet: Quiet = False,
) -> None:
    """Make instruction rows from seed rows in the style of Self-Instruct (Wang et al. 2022), by a model or a service."""
    console.set_quiet(quiet)
    _require_one(model, endpoint, endpoint_model)
    try:
        with console.status("loading datasets", after=console.SOON):
            from ftkit.synthesis.seeds import read_seeds
            from ftkit.synthesis.store import require_output
            from ftkit.synthesis.synthesize import Settings, kept_line, synthesize

        settings = Settings(rows, shots, temperature, max_new_tokens, novelty, seed, patience)
        require_output(output, resume=resume)
        names = [Repository(seeds, "dataset", key="SEEDS")] if names_dataset(seeds) else []
        commit = next((found.revision for found in looked_up(names)), None)
        block = pinned_model(Model(name=model), "--model") if model else None
        with console.status("reading the seeds", after=console.SOON):
            seed_rows = read_seeds(seeds, commit)
        generator = _local(block, settings) if block else _endpoint(str(endpoint), str(endpoint_model), settings)
        result = synthesize(seed_rows, generator, output, settings, resume=resume)
    except KeyboardInterrupt:
        words = [word for word in sys.argv[1:] if word != "--resume"]
        started = output.with_name(f"{output.name}.rounds").is_file()
        console.say(f"go on with: {shlex.join(['ftkit', *words, *(['--resume'] if started else [])])}")
        raise typer.Exit(INTERRUPTED) from None
    console.out.print(result.table())
    if result.exhausted:
        message = f"no new row in {patience} rounds, mostly {result.main_reason()}; {kept_line(result)}"
        raise UserError(message, result.hint(), "--patience")


def _require_one(model: str | None, endpoint: str | None, endpoint_model: str | None) -> None:
    if bool(model) == bool(endpoint):
        message = "--model and --endpoint are both given" if model else "neither --model nor --endpoint is given"
        raise UserError(message, "give --model, or --endpoint with --endpoint-model")
    if endpoint and not endpoint_model:
        raise UserError("the service's model is not named", "name it as the service does", "--endpoint-model")
    if model and endpoint_model:
        raise UserError("it goes with --endpoint", "leave it out", "--endpoint-model")


def _endpoint(url: str, model: str, settings: "Settings") -> "EndpointGenerator":
    from ftkit.synthesis.generators import EndpointGenerator

    generator = EndpointGenerator(
        url, model, temperature=settings.temperature, max_new_tokens=settings.max_new_tokens
    )  # fmt: skip
    generator.require_alive()
    return generator


def _local(block: Model, settings: "Settings") -> "LocalGenerator":
    """Raises UserError where there is no such model, or none that generates."""
    with loading_libraries():
        import torch
        from transformers import AutoModelForCausalLM

        from ftkit.compat import hush_libraries
        from ftkit.models.load import fit_tokenizer, load_base, load_config, load_tokenizer
        from ftkit.synthesis.generators import LocalGenerator

    hush_libraries()
    try:
        with console.status(f"loading {block.name}"):
            config, tokenizer = load_config(block, {}), load_tokenizer(block)
            model = load_base(AutoModelForCausalLM, block, config, new_head=False)
            fit_tokenizer(model, tokenizer)
    except UserError as error:
        raise UserError(error.message, error.hint, "--model") from error
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return LocalGenerator(
        model, tokenizer, name=block.name, temperature=settings.temperature, max_new_tokens=settings.max_new_tokens
    )  # fmt: skip
