"""A detector's settings and training, in scikit-learn's manner.

By its protocols, not by its base classes, whose import takes longer than all else that a prediction imports.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch

from anomaly_gan import checkpoint
from anomaly_gan.data.inputs import ManyImages
from anomaly_gan.data.laid_out import laid_out
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.device import check_usable
from anomaly_gan.errors import UserError
from anomaly_gan.own_process import train
from anomaly_gan.precision import keep_float32
from anomaly_gan.results import RunResult
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Threshold

Same = TypeVar("Same", bound="Estimator")

PARTS = ("scorer", "data", "threshold", "normal")
"""Arguments of the constructor that make a trained detector; the others but the device are settings."""


class _Trained(NamedTuple):
    """What scores."""

    scorer: Scorer
    form: dict[str, Any]
    threshold: Threshold | None
    normal: NormalImages | None


class Estimator:
    """What a `Detector` is before it scores: its arguments are described there."""

    result_: RunResult

    def __init__(
        self,
        scorer: Scorer | None = None,
        data: dict[str, Any] | None = None,
        threshold: Threshold | None = None,
        normal: NormalImages | None = None,
        device: str | torch.device = "cpu",
        *,
        method: str = "csi",
        budget: str | None = None,
        **settings: Any,
    ):
        parts = {"scorer": scorer, "data": data, "threshold": threshold, "normal": normal}
        self._params = {**parts, "device": device, "method": method, "budget": budget, **settings}
        self._trained = self._from_parts()

    @classmethod
    def load(
        cls: type[Same],
        path: str | Path,
        device: str | torch.device = "cpu",
        false_positive_rate: float | None = None,
    ) -> Same:
        """From a run's folder or its detector.ckpt.

        Args:
            path: of it.
            device: where to work.
            false_positive_rate: of normal images that may be called anomalous, in (0, 1); None: what the
                detector was trained with, or the smallest that its held-out images can promise.

        Raises:
            UserError: there is no such file, it is no detector, or that rate cannot be promised.
        """
        file = checkpoint.read(path)
        scorer = file.build()
        threshold = file.threshold(scorer.primary, false_positive_rate)
        return cls(scorer, file.data, threshold, file.normal, device)

    def fit(self: Same, images: ManyImages, y: object = None) -> Same:
        """Learn from images of what is normal, as `anomaly-gan train data=folder data.root=FOLDER` does.

        The training is `anomaly_gan.train`: a process of its own, which leaves a run's folder and is ended
        together with this one. Images that are not a folder are kept beside the runs, in `pictures` of
        `paths__runs`, for a training that goes on later (`resume="auto"`) reads them again.

        Args:
            images: the path of a folder, in any layout that the command takes, or images; see the class.
            y: not looked at. All images are learned from, but for those held out for the threshold.

        Returns:
            This detector, trained.

        Raises:
            UserError: what `anomaly_gan.train` raises; or it was made from what is trained already.
        """
        settings = {name: value for name, value in self._params.items() if name not in PARTS}
        if self._params["scorer"] is not None:
            raise UserError("this detector came trained; Detector(method=...).fit(images) trains one")
        if "data__root" in settings:
            raise UserError("data__root: fit learns from the images that it is given; leave it out")
        device, bits = settings.pop("device"), settings.get("data__bits", 16)
        check_usable(device)
        runs = Path(settings.get("paths__runs", "runs")).expanduser()
        folder = laid_out(images, runs / "pictures", bits)
        result = train(**settings, data="folder", data__root=folder)
        assert result.folder is not None
        self._trained = self.load(result.folder, device)._trained
        self.result_ = result
        self.__dict__.pop("score_names", None)  # of what it had learned before
        return self

    @property
    def scorer(self) -> Scorer:
        """What turns images into scores."""
        return self._needed().scorer

    @property
    def form(self) -> dict[str, Any]:
        """How images are read: image_size, channels, resize, bits."""
        return self._needed().form

    @property
    def threshold(self) -> Threshold | None:
        """Of the primary score; None without calibration."""
        return self._needed().threshold

    @property
    def normal(self) -> NormalImages | None:
        """The images that it learned from, for explanations."""
        return self._needed().normal

    @property
    def device(self) -> torch.device:
        """Where it scores."""
        return torch.device(self._params["device"])

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """scikit-learn's: the arguments of the constructor, by name."""
        return dict(self._params)

    def set_params(self: Same, **params: Any) -> Same:
        """scikit-learn's: change arguments of the constructor; settings are what the next `fit` goes by."""
        self._params |= params
        if params.keys() & set(PARTS):
            self._trained = self._from_parts()
        elif "device" in params and self._trained is not None:
            check_usable(params["device"])
            self._trained.scorer.to(self.device)
            if self.device.type == "cuda":
                keep_float32()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return self._trained is not None

    def __sklearn_tags__(self) -> Any:
        """For scikit-learn's own tools: an outlier detector, whose X are images."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(two_d_array=False, three_d_array=True, string=True),
            requires_fit=self._params["scorer"] is None,
        )

    def __repr__(self) -> str:
        given = {key: value for key, value in self._params.items() if value is not None and key not in PARTS}
        if self._params["scorer"] is not None:
            given = {"scorer": type(self._params["scorer"]).__name__}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in given.items())})"

    def _from_parts(self) -> _Trained | None:
        """What scores, where the constructor was given all that it takes."""
        scorer, data, threshold, normal = (self._params[name] for name in PARTS)
        if scorer is None or data is None:
            return None
        form = {key: data[key] for key in ("image_size", "channels", "resize")}
        form["bits"] = data.get("bits", 16)  # absent in files from before it could be set
        if self.device.type == "cuda":
            keep_float32()
        return _Trained(scorer.to(self.device).eval(), form, threshold, normal)

    def _needed(self) -> _Trained:
        return self._trained or _not_fitted(self._params)


def _not_fitted(params: Mapping[str, Any]) -> NoReturn:
    """Say that nothing has been learned yet.

    Raises:
        NotFittedError: scikit-learn's.
        TypeError: it was made from half of what a trained detector is.
    """
    if params["scorer"] is not None or params["data"] is not None:
        raise TypeError("scorer and data belong together; Detector(method=...) takes neither")
    from sklearn.exceptions import NotFittedError

    raise NotFittedError("this detector has learned nothing yet: call fit(images), or use Detector.load(RUN)")
