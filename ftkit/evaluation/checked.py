"""A recipe that was found sound is told so again at once, while nothing has changed from which it follows."""

import time
from collections.abc import Sequence

from ftkit import console
from ftkit.answers import keep, known
from ftkit.data.inputs import inputs_key
from ftkit.evaluation.score import CheckReport
from ftkit.recipe.schema import Recipe
from ftkit.units import time_words

KIND = "checks"


class Checked:
    """What is known of a recipe as it is now; made before it is checked."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.key = recipe, inputs_key(recipe)

    def tell_again(self) -> CheckReport | None:
        """What was found before, with its warnings; None where it was not found sound, or something has changed."""
        if not self.key or not (found := known(KIND, self.key)):
            return None
        for warning in found["warnings"]:
            console.warn(warning)
        ago = time_words(max(0.0, time.time() - found["time"]))
        return CheckReport(
            {**found["facts"], "checked": f"{ago} ago, and nothing has changed since; --again checks it anew"}
        )

    def remember(self, report: CheckReport, warnings: Sequence[str]) -> None:
        """Keep what was found, unless something was changed or fetched meanwhile."""
        if self.key and self.key == inputs_key(self.recipe):
            keep(KIND, self.key, {"facts": report.facts, "warnings": list(warnings), "time": time.time()})
