"""A detector as one graph: raw images in; score, p-value, decision and score map out."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.types import RawImages, Scores

INPUT = "images"
"""The graph's one input: uint8 [B, C, H, W], 0..255, of any B from 1 on."""

SCORE = "score"
"""Comes out first, float32 [B]."""

DECIDED = ("p_value", "anomalous")
"""Come out where there is a threshold: float64 [B], bool [B]."""

MAP = "map"
"""Comes out last, of a method that scores places: float32 [B, H, W]."""


class Decider(nn.Module):
    """From scores to p-values and decisions: `Threshold` in tensors.

    In float64, in which p-values are computed everywhere: of a p-value rounded to float32, "at most 0.05" may
    be untrue where it is 0.05.
    """

    held_out: Tensor
    value: Tensor

    def __init__(self, threshold: Threshold):
        super().__init__()
        self.register_buffer("held_out", torch.from_numpy(threshold.held_out.copy()))
        self.register_buffer("value", torch.tensor(threshold.value, dtype=torch.float64))

    def forward(self, scores: Scores) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """p-values and whether each score is above the threshold."""
        scores = scores.to(torch.float64)
        at_least = (self.held_out[None] >= scores[:, None]).sum(dim=1)  # ONNX has no searchsorted
        p_values = (1 + at_least).to(torch.float64) / (len(self.held_out) + 1)
        return p_values, scores > self.value


class Graph(nn.Module):
    """What is exported.

    Args:
        scorer: of the detector.
        threshold: of its primary score; None: scores alone come out.
    """

    def __init__(self, scorer: Scorer, threshold: Threshold | None):
        super().__init__()
        self.scorer = scorer
        self.decider = None if threshold is None else Decider(threshold)

    def forward(self, images: RawImages) -> dict[str, Tensor]:
        """What comes out, by name."""
        maps = self.scorer.raw_maps(images) if self.scorer.scores_places else None
        score = self.scorer(images) if maps is None else maps.amax(dim=(1, 2))
        decided = {} if self.decider is None else dict(zip(DECIDED, self.decider(score), strict=True))
        return {SCORE: score} | decided | ({} if maps is None else {MAP: maps})


def outputs(scorer: Scorer, threshold: Threshold | None) -> list[str]:
    """The names of what comes out, in their order."""
    return [SCORE, *(DECIDED if threshold is not None else ()), *((MAP,) if scorer.scores_places else ())]


def trace(scorer: Scorer, threshold: Threshold | None, channels: int, image_size: int) -> ExportedProgram:
    """The graph of a scorer (`Scorer.forward`) on the CPU, for any size of batch."""
    # Of two images or more: a size of one would be taken for a constant.
    example = torch.zeros(2, channels, image_size, image_size, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(
            Graph(scorer, threshold).eval(),
            (example,),
            dynamic_shapes={INPUT: {0: Dim("batch")}},
        )
    for part in program.graph_module.modules():
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:  # it names files of the machine that exported
                node.meta.pop("stack_trace", None)
    return program
