"""Learning rates beyond any sense: said before the first step, where a figure slipped or belongs to another optimizer."""

from ftkit import console
from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe

# From where on a rate draws a warning: of a whole body or its adapters, and of a head alone, which takes more.
# Optimizers that divide a gradient by its size move each weight by about the rate in a step, and weights are of 0.01 to 1.
SCALED, SCALED_HEAD = 0.1, 1.0
# Plain descent moves a weight by the rate times its gradient; 0.1 to 1 is usual, and a linear probe takes up to 30.
PLAIN, PLAIN_HEAD = 10.0, 100.0
PLAIN_NAMES = ("sgd", "lomo")


def rate_limit(optim: str, strategy: str) -> float:
    """From which learning rate on nothing is learnt, by optimizer and strategy."""
    plain, head = any(name in optim for name in PLAIN_NAMES) and optim != "adalomo", strategy == "transfer"
    if plain:
        return PLAIN_HEAD if head else PLAIN
    return SCALED_HEAD if head else SCALED


def warn_of_rate(recipe: Recipe, optim: str) -> None:
    """Say that the learning rate is beyond any sense, where it is."""
    rate, strategy = recipe.training.learning_rate, recipe.strategy.name
    if rate >= (limit := rate_limit(optim, strategy)):
        message = (
            f"a learning_rate of {rate:g} is beyond any sense for {optim} under {strategy}, where it is below {limit:g}: "
            "expect the training to diverge"
        )
        console.warn(str(UserError(message, place=recipe.place("training.learning_rate"), key="training.learning_rate")))
