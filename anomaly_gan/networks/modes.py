"""Which networks a phase may move: weights and running statistics."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import ParametrizationList


@contextmanager
def frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, `networks` work as in training (batch statistics), but nothing of theirs moves.

    Gradients still pass through them to their inputs. Freezing the weights alone would leave the running
    statistics of batch norm and the singular vectors of spectral norm moving with every forward pass in
    training mode.
    """
    networks = list(networks)
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    norms = [norm for network in networks for norm in batch_norms(network) if norm.track_running_stats]
    parametrizations = [
        module
        for network in networks
        for parametrized in network.modules()
        if isinstance(parametrized, ParametrizationList)
        for module in parametrized
        if module.training
    ]
    for parameter in parameters:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.track_running_stats = False
    for module in parametrizations:
        module.eval()
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.track_running_stats = True
        for module in parametrizations:
            module.train()


@contextmanager
def recalibrating(network: nn.Module) -> Iterator[None]:
    """Inside, in training mode: every input that passes `network` counts alike in new running statistics."""
    norms = batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    seen = 0

    def weigh_by_length(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])
        for norm in norms:
            norm.momentum = len(inputs[0]) / seen

    for norm in norms:
        norm.reset_running_stats()
    hook = network.register_forward_pre_hook(weigh_by_length)
    network.train()
    try:
        yield
    finally:
        hook.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """All batch-norm layers of `network`."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def compile_each(networks: Iterable[nn.Module]) -> None:
    """Let every one of `networks` be compiled at its first use in training.

    Every phase brings each network its own combination of batch size and of what has a gradient, and each is
    compiled once. Evaluation brings many sizes, each but a few times: there nothing is compiled.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for network in networks:
        network.compile(dynamic=False)
        network._compiled_call_impl = partial(_in_training, network, network._compiled_call_impl)


def _in_training(network: nn.Module, compiled: Any, *args: Any, **kwargs: Any) -> Any:
    return (compiled if network.training else network._call_impl)(*args, **kwargs)
