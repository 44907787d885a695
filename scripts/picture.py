"""Take a picture of a finished run's page as docs/assets/report.png, the one in the README. It needs Chromium.

ftkit train docs/assets/polarity.yaml && python scripts/picture.py runs/polarity
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ftkit.run import Run

NAMES = ("chromium", "chromium-browser", "google-chrome")
PIXELS = (1100, 1000)  # the top of the page


def main(folder: Path, target: Path) -> None:
    width, height = PIXELS
    page = Run(folder).folder / "report.html"
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000"]
        options += [f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--screenshot={target}"]
        subprocess.run([program(), *options, page.resolve().as_uri()], check=True, capture_output=True)


def program() -> str:
    return next(found for name in NAMES if (found := shutil.which(name)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent.parent / "docs" / "assets" / "report.png")
