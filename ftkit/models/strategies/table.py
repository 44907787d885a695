"""The strategies by name."""

from ftkit.models.strategies.base import Strategy
from ftkit.models.strategies.full import FullStrategy
from ftkit.models.strategies.lora import LoraStrategy
from ftkit.models.strategies.qlora import QLoraStrategy
from ftkit.models.strategies.transfer import TransferStrategy

STRATEGIES: dict[str, Strategy] = {
    "full": FullStrategy(),
    "transfer": TransferStrategy(),
    "lora": LoraStrategy(),
    "qlora": QLoraStrategy(),
}
