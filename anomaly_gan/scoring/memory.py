"""The bank inside a module, so that it travels in the checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.scoring.scores import Bank

REMEMBERED = {"hellinger": "roots", "whitened": "whitened"}
"""By score of features, the field of `Bank` that has those of the normal images."""


class MemoryBank(nn.Module):
    """Holds a `Bank` in buffers: empty until `fill` or until a checkpoint is loaded."""

    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fill(Bank(torch.empty(0, 0, 0), torch.empty(0), torch.empty(0)))

    def fill(self, bank: Bank) -> None:
        """Replace what is held."""
        for name, value in bank._asdict().items():
            self.register_buffer(name, value)

    @property
    def bank(self) -> Bank:
        """What is held.

        Raises:
            RuntimeError: nothing is; `Scorer.fit` comes first.
        """
        bank = Bank(*(getattr(self, name) for name in Bank._fields))
        if len(bank.unit) == 0:
            raise RuntimeError("the memory bank is empty: call fit before scoring")
        return bank

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # A bank has as many rows as there were normal images, which a fresh module cannot know.
        for name in Bank._fields:
            if prefix + name in state_dict:
                self.register_buffer(name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_features_are_remembered(scorer: nn.Module, _: object) -> None:
    """After the loading of a state: each bank of `scorer` that holds anything has its features, too.

    Raises:
        UserError: one has none.
    """
    field = REMEMBERED[scorer.of_features]  # type: ignore[index]
    for memory in scorer.modules():
        if isinstance(memory, MemoryBank) and memory.unit.numel() and getattr(memory, field) is None:
            raise UserError(
                f"primary={scorer.of_features}: made for another score, the file keeps no features to "
                f"compare; train with score={scorer.of_features}"
            )
