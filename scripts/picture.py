"""Draw the closing table of a finished run as docs/run.svg, the picture in the README.

ftkit train recipes/gpt2_instruction.yaml --smoke && python scripts/picture.py runs/gpt2_instruction_smoke
"""

import io
import json
import sys
from pathlib import Path

from rich.console import Console

from ftkit.api import Result
from ftkit.run import Run


def main(folder: Path, target: Path) -> None:
    run, console = Run(folder), Console(record=True, width=110, file=io.StringIO())
    metrics = json.loads(run.metrics_file.read_text())
    record = run.record | {"model": Path(run.record["model"]).name}
    console.print(f"$ ftkit {' '.join(record['command'][1:])}\n", style="bold")
    console.print(Result(folder, metrics, record).table())
    console.save_svg(str(target), title="a finished run")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent.parent / "docs" / "run.svg")
