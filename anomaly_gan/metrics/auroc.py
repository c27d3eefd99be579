"""AUROC, exact, and its bootstrap interval."""

import math

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.metrics import roc_auc_score


def auroc(scores: Float[ndarray, " n"], anomalous: Bool[ndarray, " n"]) -> float | None:
    """Probability, in [0, 1], that an anomalous image scores higher than a normal one; ties count half.

    None where there are no normal or no anomalous images.
    """
    if anomalous.all() or not anomalous.any():
        return None
    return float(roc_auc_score(anomalous, scores))


def bootstrap_interval(
    scores: Float[ndarray, " n"],
    anomalous: Bool[ndarray, " n"],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of the AUROC under the stratified bootstrap.

    Normal and anomalous images are drawn again, each among their own, `resamples` times. This says how far
    the figure would move with other test images, not with another training run.
    None where the AUROC is.
    """
    if anomalous.all() or not anomalous.any():
        return None
    order = np.argsort(scores, kind="stable")
    _, group = np.unique(scores[order], return_inverse=True)  # equal scores form one group
    groups = int(group[-1]) + 1
    normal_group, anomalous_group = group[~anomalous[order]], group[anomalous[order]]
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for i in range(resamples):
        normal_count = np.bincount(random.choice(normal_group, len(normal_group)), minlength=groups)
        anomalous_count = np.bincount(random.choice(anomalous_group, len(anomalous_group)), minlength=groups)
        normal_below = np.cumsum(normal_count) - normal_count / 2
        values[i] = (anomalous_count @ normal_below) / (len(normal_group) * len(anomalous_group))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    assert math.isfinite(low)
    return float(low), float(high)
