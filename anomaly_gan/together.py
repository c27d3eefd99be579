"""Many images judged at once: how many of those called anomalous are so by mistake."""

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from anomaly_gan.errors import UserError, probability
from anomaly_gan.inference import Prediction
from anomaly_gan.scoring.calibration import adjusted


def judged_together(predictions: Iterable[Prediction], fdr: Any) -> Iterator[Prediction]:
    """The same predictions with decisions by false discovery rate, once all of them are known.

    Of the images called anomalous, the expected share of normal ones is at most `fdr`, as
    `scoring.calibration.adjusted` has it. Until the last image is scored they wait in a temporary file: any
    number takes the memory of one number each.

    Examples:
        >>> from anomaly_gan.together import judged_together
        >>> for found in judged_together(detector.examine([path, path, path]), fdr=0.5):
        ...     print(found.index, found.adjusted_p_value == found.p_value)
        0 True
        1 True
        2 True

    Args:
        predictions: of a detector with a threshold (`Detector.examine`).
        fdr: in (0, 1).

    Raises:
        UserError: `fdr` is no such number, or the detector has no calibration.
    """
    rate = probability("fdr", fdr)
    with tempfile.TemporaryFile() as waiting:
        p_values = []
        for prediction in predictions:
            if prediction.error is None and prediction.p_value is None:
                raise UserError("fdr: the detector has no calibration, so there is nothing to go by")
            if prediction.p_value is not None:
                p_values.append(prediction.p_value)
            pickle.dump(prediction, waiting)
        values = iter(adjusted(np.array(p_values, dtype=np.float64)).tolist())
        end = waiting.tell()
        waiting.seek(0)
        while waiting.tell() < end:
            prediction = pickle.load(waiting)
            if prediction.p_value is not None:
                value = next(values)
                prediction = replace(prediction, adjusted_p_value=value, anomalous=value <= rate)
            yield prediction
