"""Reads a file of tensors that may come from anybody."""

import pickle
from pathlib import Path
from typing import Any

import torch

from anomaly_gan.errors import UserError


def safe_load(path: Path, complaint: str) -> Any:
    """What torch.save wrote at `path`, on the CPU. Nothing in the file is executed.

    Args:
        path: of the file.
        complaint: the message where the file is cut short, damaged, or something else.

    Raises:
        UserError: with that message.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # What a file of other bytes comes to hangs on the bytes: the reader takes them for instructions.
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        pickle.UnpicklingError,
    ) as damaged:
        raise UserError(complaint) from damaged
