"""A detector in one file that runs without this package, and says what the detector says."""

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan import Detector, UserError, __version__, checkpoint
from anomaly_gan.build import build_method
from anomaly_gan.checkpoint import Checkpoint
from anomaly_gan.data.digits import Digits
from anomaly_gan.export import file, formats
from anomaly_gan.export.file import TOLERANCE, export, largest_difference, probe_images
from anomaly_gan.export.formats import FORMATS
from anomaly_gan.scoring.calibration import Calibration
from anomaly_gan.transforms.convert import to_float

ROOT = Path(__file__).parents[2]
SUFFIX = {"torch": "pt2", "onnx": "onnx"}
RATE = 0.5


def views(first_draw: str = "centre", blur: bool = False) -> dict[str, Any]:
    return {
        "_target_": "anomaly_gan.transforms.views.ShiftedViews",
        "shifts": {"_target_": "anomaly_gan.transforms.shifts.Rotations"},
        "augment": {"_target_": "anomaly_gan.transforms.augment.Augment", "blur": blur},
        "first_draw": first_draw,
    }


@pytest.fixture(scope="module", params=SUFFIX)
def exported(request: pytest.FixtureRequest, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny detector of digits as a file of each kind, with another threshold than it was trained with."""
    output = tmp_path_factory.mktemp("exported") / f"digits.{SUFFIX[request.param]}"
    done = export(checkpoint.read(trained), request.param, output, RATE)
    assert done.difference < TOLERANCE
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    return output


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """All real test images of digits, uint8 [N, 1, 16, 16]."""
    data = Digits(normal_class=0, batch_size=8, total_images=8)
    data.setup()
    assert data.test is not None
    return data.test[range(len(data.test))].images.numpy()


def open_file(path: Path) -> tuple[Callable, dict[str, Any]]:
    return FORMATS["onnx" if path.suffix == ".onnx" else "torch"].open(path)


def make_checkpoint(trained: Path, **changes: Any) -> Checkpoint:
    """An untrained detector, with a bank and a calibration of noise."""
    given = checkpoint.read(trained)
    data = given.data | {key: changes.pop(key) for key in ("image_size", "channels") if key in changes}
    method = given.config["method"] | {"name": changes.pop("method", "csi")}
    config = given.config | {"method": method, "scoring": given.config["scoring"] | changes}
    scorer = build_method(config, data).scorer
    shape = (12, data["channels"], data["image_size"], data["image_size"])
    scorer.fit([torch.rand(shape)])
    held_out = {name: scores.double().numpy() for name, scores in scorer.scores(torch.rand(shape)).items()}
    return Checkpoint(Path("made"), config, data, scorer.state_dict(), Calibration.of(held_out))


def test_a_file_scores_and_decides_every_real_test_image_as_the_detector_does(
    exported: Path, trained: Path, digits: np.ndarray
) -> None:
    detector = Detector.load(trained, false_positive_rate=RATE)
    assert detector.threshold is not None
    assert len(digits) > 700
    run, _ = open_file(exported)
    found = run(digits)
    expected = detector.scorer.score(to_float(torch.from_numpy(digits))).numpy()
    allowed = TOLERANCE * np.abs(expected).mean()
    np.testing.assert_allclose(found["score"], expected, rtol=0, atol=allowed)
    # An image nearer to the threshold, or to a held-out score, may go either way; there are hardly any.
    wide = expected.astype(np.float64)
    clear = np.abs(wide - detector.threshold.value) > allowed
    assert clear.mean() > 0.99
    assert np.array_equal(found["anomalous"][clear], detector.threshold.anomalous(wide)[clear])
    clear = (np.abs(wide[:, None] - detector.threshold.held_out) > allowed).all(axis=1)
    assert clear.mean() > 0.99
    assert np.array_equal(found["p_value"][clear], detector.threshold.p_values(wide)[clear])
    assert 0 < found["anomalous"].sum() < len(digits)


def test_p_values_and_decisions_are_exactly_what_the_files_scores_give(
    exported: Path, trained: Path, digits: np.ndarray
) -> None:
    threshold = Detector.load(trained, false_positive_rate=RATE).threshold
    assert threshold is not None
    found = open_file(exported)[0](digits)
    scores = found["score"].astype(np.float64)
    assert np.array_equal(found["p_value"], threshold.p_values(scores))
    assert np.array_equal(found["anomalous"], threshold.anomalous(scores))
    assert np.array_equal(found["anomalous"], found["p_value"] <= threshold.rate)


def test_a_batch_may_have_any_size(exported: Path, digits: np.ndarray) -> None:
    run, _ = open_file(exported)
    whole = run(digits[:64])["score"]
    for size in (1, 2, 7, 64):
        found = run(digits[:size])
        assert {name: values.shape for name, values in found.items()} == dict.fromkeys(found, (size,))
        np.testing.assert_allclose(found["score"], whole[:size], rtol=1e-4, atol=1e-5)


def test_a_file_says_how_to_read_an_image_and_what_it_decides_by(exported: Path, trained: Path) -> None:
    _, about = open_file(exported)
    threshold = Detector.load(trained, false_positive_rate=RATE).threshold
    assert threshold is not None
    assert about == {
        "format": "anomaly_gan export 1",
        "version": __version__,
        "method": "csi",
        "dataset": "digits",
        "normal_class": "0",
        "image_size": 16,
        "channels": 1,
        "resize": "stretch",
        "bits": 16,
        "score": "csi_ens",
        "outputs": ["score", "p_value", "anomalous"],
        "threshold": threshold.value,
        "false_positive_rate": RATE,
        "held_out_scores": threshold.held_out.tolist(),
    }


def test_a_file_names_no_path_of_the_machine_that_wrote_it(exported: Path) -> None:
    content = exported.read_bytes()
    for path in (ROOT, Path(torch.__file__).parents[1], Path.home()):
        assert str(path).encode() + b"/" not in content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "changes"),
    [
        (
            "torch",
            {"primary": "paper", "ensemble": 2, "precision": "bf16-mixed", "views": views(blur=True)},
        ),
        ("onnx", {"primary": "paper", "image_size": 40, "channels": 3, "views": views("random")}),
        ("onnx", {"primary": "hellinger", "body": "vgg7", "ensemble": 1}),
        ("torch", {"primary": "hellinger", "body": "vgg7", "ensemble": 2, "views": views()}),
        ("onnx", {"primary": "whitened", "body": "vgg7", "ensemble": 1}),
        ("torch", {"primary": "whitened", "body": "resnet18", "ensemble": 2, "views": views()}),
    ],
)
def test_every_score_and_ensemble_can_be_exported(
    trained: Path, tmp_path: Path, form: str, changes: dict[str, Any]
) -> None:
    made = make_checkpoint(trained, **changes)
    output = tmp_path / f"x.{SUFFIX[form]}"
    done = export(made, form, output, 0.1)
    found = open_file(output)[0](probe_images(9, made.data["channels"], made.data["image_size"]).numpy())
    expected = made.build().score(to_float(probe_images(9, made.data["channels"], made.data["image_size"])))
    np.testing.assert_allclose(found["score"], expected.numpy(), rtol=1e-3, atol=1e-4)
    assert done.score == made.build().primary


@pytest.mark.slow
def test_a_file_holds_only_what_the_score_needs(trained: Path, tmp_path: Path) -> None:
    sizes, spare = [], 600_000  # the graph itself
    for method in ("csi", "full"):
        made = make_checkpoint(trained, method=method)
        assert made.build().generates == (method == "full")
        output = tmp_path / f"{method}.pt2"  # the exporter to ONNX drops by itself what is not used
        export(made, "torch", output, None)
        sizes.append(output.stat().st_size)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    scorer = made.build()
    needed = [*scorer.network.state_dict().values(), *scorer.banks["ensemble"].state_dict().values()]
    assert max(sizes) < sum(value.nbytes for value in needed) + spare


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"precision": "bf16-mixed"}, "scoring.precision=32-true"),
        ({"ensemble": 2, "views": views(blur=True)}, "method.views.augment.blur=false"),
    ],
)
def test_what_onnx_cannot_hold_is_refused_with_the_remedy(
    trained: Path, tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    made = make_checkpoint(trained, **changes)
    with pytest.raises(UserError, match=re.escape(word)):
        export(made, "onnx", tmp_path / "a.onnx", None)
    assert not list(tmp_path.iterdir())


def test_onnx_refuses_more_than_a_protobuf_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LARGEST_ONNX", 4 * 100 - 1)
    program = torch.export.export(torch.nn.Linear(10, 10, bias=False), (torch.rand(2, 10),))
    with pytest.raises(UserError, match="format=torch"):
        FORMATS["onnx"].write(program, {}, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_without_its_libraries_onnx_says_what_to_install(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'anomaly-gan[export]'")):
        export(checkpoint.read(trained), "onnx", tmp_path / "a.onnx", None)


@pytest.mark.parametrize(
    ("spoilt", "word"),
    [("score", "scores differ"), ("p_value", "decides"), ("anomalous", "decides"), ("", "")],
)
def test_what_says_something_else_than_the_detector_is_found_out(
    trained: Path, spoilt: str, word: str
) -> None:
    detector = Detector.load(trained)
    assert detector.threshold is not None

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        score = detector.scorer.score(to_float(torch.from_numpy(images))).numpy()
        wide = score.astype(np.float64)
        found = {
            "score": score,
            "p_value": detector.threshold.p_values(wide),
            "anomalous": detector.threshold.anomalous(wide),
        }
        wrong = {"score": score * 1.001, "p_value": found["p_value"] + 1e-9, "anomalous": ~found["anomalous"]}
        return found | {name: values for name, values in wrong.items() if name == spoilt}

    expectation = pytest.raises(UserError, match=word) if spoilt else nullcontext()
    with expectation:
        assert largest_difference(run, detector.scorer, detector.threshold, 1, 16) < TOLERANCE


def test_a_file_that_says_something_else_than_the_detector_is_not_left(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = FORMATS["torch"]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"score": np.ones(len(images), dtype=np.float32)}

    monkeypatch.setattr(kind, "write", lambda program, metadata, path: path.write_text("a wrong file"))
    monkeypatch.setattr(kind, "open", lambda path: (run, {}))
    monkeypatch.setattr(file, "trace", lambda *_: None)
    (tmp_path / "a.pt2").write_text("what was there before")
    with pytest.raises(UserError, match="nothing was written"):
        export(checkpoint.read(trained), "torch", tmp_path / "a.pt2", None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"]
    assert (tmp_path / "a.pt2").read_text() == "what was there before"


def test_the_documented_readers_need_nothing_of_this_package(
    exported: Path, trained: Path, tmp_path: Path
) -> None:
    """The two examples of docs/export.md, run as they are written."""
    with_onnx, with_torch = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL
    )
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / f"detector{exported.suffix}").symlink_to(exported)
    banned = "import sys\nsys.modules['anomaly_gan'] = None\n"
    if exported.suffix == ".onnx":
        program = banned + "sys.modules['torch'] = None\n" + with_onnx
        assert len(with_onnx.strip().splitlines()) <= 12
    else:
        reading = with_onnx[with_onnx.index("image = ") : with_onnx.index("print")]
        head = "import json\nimport numpy as np\nfrom PIL import Image\nside, mode = 16, 'L'\n"
        program = banned + head + reading + with_torch
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", done.stdout)]
    (expected,) = Detector.load(trained, false_positive_rate=RATE).examine(tmp_path / "photo.png")
    assert found[0] == pytest.approx(expected.score, rel=1e-3)
    assert found[1] == pytest.approx(expected.p_value)
    assert str(expected.anomalous) in done.stdout
