"""A detector before and after it learns, in scikit-learn's manner."""

import pickle
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks as checks
from sklearn.utils.validation import check_is_fitted

from anomaly_gan import Detector, UserError

SMALL: dict[str, Any] = {"method": "raw_pixels", "data__image_size": 8, "verbose": False}


@pytest.fixture(scope="module")
def fours() -> ndarray:
    """[N, 8, 8, 1], in [0, 1]"""
    digits = load_digits()
    return digits.images[digits.target == 4][:, :, :, None] / 16


@pytest.fixture(scope="module")
def learned(fours: ndarray, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    runs = tmp_path_factory.mktemp("runs")
    return Detector(**SMALL, paths__runs=runs, data__calibration_fraction=0.3).fit(fours[:120])


HOLD: list[Callable[..., None]] = [
    checks.check_estimator_cloneable,
    checks.check_estimator_tags_renamed,
    checks.check_valid_tag_types,
    checks.check_estimator_repr,
    checks.check_no_attributes_set_in_init,
    checks.check_estimators_unfitted,
    checks.check_mixin_order,
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
]
"""Those of scikit-learn's checks that need not fit. The others give a table of numbers [n, features] as X,
which is no batch of images; what they check is checked below, with images. Two do not hold: `score` is the
scores of images, so that its second argument is no y; and here the types of the constructor's arguments are
checked, where scikit-learn gives it any."""


@pytest.mark.parametrize("check", HOLD, ids=lambda check: check.__name__)
def test_scikit_learn_s_checks_hold_as_far_as_they_need_no_table(
    check: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detector, "fit", lambda self, images, y=None: self)
    check("Detector", Detector(method="padim", seed=1))


def test_fit_learns_and_leaves_the_settings_alone(learned: Detector, fours: ndarray) -> None:
    check_is_fitted(learned)
    assert learned.result_.method == "raw_pixels"
    assert learned.result_.counts["train"] + learned.result_.counts["calibration"] == 120
    assert learned.result_.dataset == "folder"
    assert {name: learned.get_params()[name] for name in SMALL} == SMALL
    predicted = learned.predict(fours[120:])
    assert predicted.dtype.kind == "i"
    assert set(np.unique(predicted)) <= {-1, 1}
    assert (predicted == 1).mean() > 0.8
    digits = load_digits()
    others = digits.images[digits.target == 1][:, :, :, None] / 16
    assert (learned.predict(others) == -1).mean() > 0.8
    decision = learned.decision_function(fours)
    np.testing.assert_allclose(decision, learned.score_samples(fours) - learned.offset_)
    assert np.array_equal(learned.predict(fours), np.where(decision < 0, -1, 1))


def test_a_clone_has_the_settings_and_has_learned_nothing(learned: Detector, fours: ndarray) -> None:
    copy = clone(learned)
    assert copy.get_params() == learned.get_params()
    assert repr(copy) == repr(learned)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        check_is_fitted(copy)
    for ask in (copy.predict, copy.score, copy.decision_function, copy.score_samples, copy.explain):
        with pytest.raises(NotFittedError, match=r"call fit\(images\)"):
            ask(fours[0])
    assert not hasattr(copy, "offset_")


def test_its_folder_its_pickle_and_the_same_fit_again_score_alike(learned: Detector, fours: ndarray) -> None:
    expected = learned.score(fours)
    assert learned.result_.folder is not None
    for same in (
        Detector.load(learned.result_.folder),
        pickle.loads(pickle.dumps(learned)),
        clone(learned).fit(fours[:120]),
    ):
        assert np.array_equal(same.score(fours), expected)
    pictures = [*learned.result_.folder.parents[1].glob("pictures/*")]
    assert len(pictures) == 1  # the images of both trainings are the same


def test_a_loaded_detector_is_what_it_was_made_of(trained: Path, fours: ndarray) -> None:
    loaded = Detector.load(trained)
    parts = Detector(loaded.scorer, {**loaded.form}, loaded.threshold, loaded.normal, "cpu")
    copy = clone(loaded)
    for same in (parts, copy):
        assert np.array_equal(same.score(fours), loaded.score(fours))
    assert copy.scorer is not loaded.scorer
    with pytest.raises(UserError, match="came trained"):
        loaded.fit(fours)
    with pytest.raises(TypeError, match="belong together"):
        Detector(data={"image_size": 8}).score(fours)


def test_what_cannot_be_learned_from_is_said_before_anything_starts(tmp_path: Path, fours: ndarray) -> None:
    small = Detector(**SMALL, paths__runs=tmp_path)
    with pytest.raises(UserError, match="no images"):
        small.fit([])
    with pytest.raises(UserError, match="leave it out"):
        clone(small).set_params(data__root=tmp_path).fit(fours)
    with pytest.raises(UserError, match=r"data\.root=.*nowhere is not a folder"):
        small.fit(tmp_path / "nowhere")
    assert not any(tmp_path.glob("pictures/*"))


def test_fitting_leaves_the_process_as_it_was(fours: ndarray, tmp_path: Path) -> None:
    before = list(warnings.filters), [signal.getsignal(n) for n in (1, 2, 10, 12, 15)]
    Detector(**SMALL, paths__runs=tmp_path).fit_predict(list(fours[:20]))
    assert (list(warnings.filters), [signal.getsignal(n) for n in (1, 2, 10, 12, 15)]) == before


def test_a_folder_is_fitted_and_predicted_picture_by_picture(fours: ndarray, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for i, four in enumerate(fours[:20]):
        Image.fromarray(np.uint8(255 * four[:, :, 0])).save(tmp_path / "good" / f"{i:02d}.png")
    detector = Detector(**SMALL, paths__runs=tmp_path / "runs")
    decided = detector.fit_predict(tmp_path / "good")
    pictures = sorted((tmp_path / "good").iterdir())
    assert decided.tolist() == detector.predict(pictures).tolist()


@pytest.mark.parametrize("device", ["auto", "cuda:99"])
def test_a_device_that_is_none_is_refused_before_anything_is_trained(
    learned: Detector, fours: ndarray, tmp_path: Path, device: str
) -> None:
    with pytest.raises(UserError, match=f"device={device}: torch cannot use it here"):
        Detector(**SMALL, paths__runs=tmp_path, device=device).fit(list(fours[:20]))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="torch cannot use it"):
        pickle.loads(pickle.dumps(learned)).set_params(device=device)
