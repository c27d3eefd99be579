"""Every input that cannot be used: one line that names the remedy, exit code 2, nothing half-written."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan import checkpoint
from anomaly_gan.cli import train
from anomaly_gan.config import build
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Detector

IDX = [f"{split}-{kind}-ubyte[.gz]" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
"""The four files of Fashion-MNIST."""


def images(folder: Path, count: int, side: int = 16) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def refused(outcome, *words: str) -> None:
    """Exit code 2, one line that has `words`, no traceback, and the current folder as it was."""
    assert outcome.code == 2, outcome
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("anomaly-gan: ")
    for word in words:
        assert word in lines[0]
    assert Path().resolve().is_dir()
    assert not Path("runs").exists()  # nothing half-written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "train"]),
        (["train", "data=digit"], ["data=digit", "digits"]),
        (["train", "experiment=digits_dmo"], ["digits_demo"]),
        (["train", "dta=digits"], ["dta", "data"]),
        (["train", "sede=1"], ["sede", "seed"]),
        (["train", "data.calibration_fractoin=0"], ["data.calibration_fraction"]),
        (["train", "method.views.augment.hui=0"], ["method.views.augment.hue"]),
        (["train", "scoring.primary=cis"], ["primary", "csi"]),
        (["train", "optimizer.decay=cosin"], ["decay", "cosine"]),
        (["train", "seed=abc"], ["seed", "whole number"]),
        (["train", f"method.phases.feature.weights.contrastive={10**33}"], ["contrastive=1000", "2^63"]),
        (["train", "callbacks.health.collapse_below=inf"], ["collapse_below=inf", "finite"]),
        (["train", "scoring.embedding_size=-70"], ["embedding_size=-70", "at least 1"]),
        (["train", "threshold=0.01"], ["threshold=0.01", "threshold.false_positive_rate=..."]),
        (["train", "schedule=null"], ["schedule=null", "schedule.total_images=..."]),
        (["predict", "checkpoint=a", "inputs=b", "threshold=1"], ["threshold.false_positive_rate=..."]),
        (["train", "batch_size=3.5"], ["batch_size", "whole number"]),
        (["train", "optimizer.learning_rate=fast"], ["learning_rate", "number"]),
        (["train", "scoring.recalibrate_batch_norm=2"], ["true or false"]),
        (["train", "optimizer.betas=[0.9,high]"], ["betas", "number"]),
        (["train", "optimizer.betas=0.9"], ["betas", "list"]),
        (["train", "optimizer.betas=[0.9]"], ["betas", "two numbers"]),
        (["train", "optimizer.learning_rate=-1.0"], ["learning_rate=-1.0"]),
        (["train", "seed=-1"], ["seed=-1"]),
        (["train", "method.name=csx"], ["csx", "csi"]),
        (["train", "scoring.chunk=0"], ["scoring.chunk=0"]),
        (["train", "scoring.ensemble=-1"], ["scoring.ensemble=-1"]),
        (["train", "method.log_every_iterations=0"], ["log_every_iterations=0"]),
        (["train", "trainer.accelerator=cpu", "trainer.devices=x"], ["trainer"]),
        (["train", "trainer.accelerator=cpu", "trainer.devices=3", "batch_size=2"], ["batch_size=2", "3"]),
        (["train", "trainer.precision=16-mixed"], ["bf16-mixed"]),
        (["train", "data=folder", "data.on_corupt=skip"], ["data.on_corrupt"]),
        (["train", "method.views.first_draw=center"], ["centre"]),
        (["predict", "checkpoint=2024", "inputs=2024"], ["2024", "no such file"]),
        (["predict", "checkpoint=missing", "inputs=[]"], ["inputs"]),
        (["predict", "checkpoint=missing", "inputs=.", "output=nowhere/x"], ["no images"]),
        (["train", "width=12"], ["width=12", "multiple of 8"]),
        (["train", "method=deep_svdd", "batch_size=1"], ["batch_size=1", "2 images or more at a time"]),
        (["train", "method=ocgan", "batch_size=1"], ["batch_size=1", "2 images or more at a time"]),
        (["train", "normal_class=ten"], ["normal_class=ten", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"]),
        (["train", "normal_class=10"], ["normal_class=10", "0..9"]),
        (["train", "data.calibration_fraction=1.5"], ["calibration_fraction"]),
        (["train", "schedule.total_images=0"], ["total_images"]),
        (["train", "data=folder"], ["data.root"]),
        (
            ["train", "data=folder", "data.root=nowhere"],
            ["nowhere", "not a folder", "train/<class>/", "train/good/"],
        ),
        (["train", "data=cifar10"], ["data.download=true"]),
        (["train", "data=cifar100"], ["data.download=true"]),
        (["train", "data=fashion_mnist"], [*IDX, "FashionMNIST/raw", "data.download=true"]),
        (["train", "data=cifar10_jpeg"], ["cifar10-jpeg", "{train,test}/<class>/*.jpg", "download=true"]),
        (["train", "data=imagenet30"], ["data.root"]),
        (["train", "resume=nothing.ckpt"], ["nothing.ckpt", "last.ckpt"]),
        (["train", "trainer.precision=17"], ["precision"]),
        (["train", "method._target_=os.system"], ["os.system", "anomaly_gan"]),
        (["train", "data=[digits"], ["data=[digits: ", "key=value", "quotes"]),
        (["train", "paths.runs=/dev/null/runs"], ["/dev/null"]),
        (["evaluate"], ["checkpoint"]),
        (["evaluate", "checkpoint=missing"], ["missing", "detector.ckpt"]),
        (["predict", "checkpoint=missing", "inputs=."], ["no images"]),
        (["predict", "checkpoint=missing"], ["inputs"]),
        # A group of another command.
        (["evaluate", "checkpoint=missing", "ablation=csi"], ["ablation: no such setting", "valid: "]),
        (["evaluate", "checkpoint=missing", "score=csi"], ["score: no such setting"]),
        (["evaluate", "checkpoint=missing", "debug=fast"], ["debug: no such setting"]),
        (["evaluate", "checkpoint=missing", "data=digits", "devise=cpu"], ["devise", "device"]),
        (["predict", "checkpoint=missing", "inputs=.", "data=digits"], ["data: no such setting"]),
        # Null or a number where a name or an object is needed, and numbers out of range.
        (["train", "data=null"], ["data=null", "digits"]),
        (["train", "data=5"], ["data=5", "digits"]),
        (["train", "logger=null"], ["logger=null", "csv"]),
        (["train", "seed=5000000000"], ["seed=5000000000", "below 4294967296"]),
        (["train", "data.workers=-1"], ["data.workers=-1", "at least 0"]),
        (["train", "method.phases.feature=null"], ["method.phases.feature=null", "block of settings"]),
        (["train", "method.views.shifts=null"], ["scoring.views.shifts=null", "block of settings"]),
        (["train", "method.optimizer=null"], ["method.optimizer=null", "block of settings"]),
        (["train", "optimizer=null"], ["optimizer=null", "valid: adam"]),
        (["train", "+method.optimizers.generator=5"], ["method.optimizers.generator=5", "block of settings"]),
        (["train", "method.optimizer=5"], ["method.optimizer=5", "block of settings"]),
        (["train", "data=folder", "data.root=5"], ["data.root=5", "not a folder"]),
        (["train", "trainer.devices=1.5"], ["trainer: ", "devices", "int > 0"]),
        (["train", "trainer.accelerator=cpu", "trainer.devices=-1"], ["trainer: ", "devices", "int > 0"]),
        # Found by benchmarks/fuzz.py.
        (["train", "optimizer=[null]"], ["settings are given as key=value"]),
        (["train", "logger.csv=1"], ["logger.csv=1", "block of settings"]),
        (["train", "logger.csv="], ["logger.csv", "empty"]),
        (["train", "callbacks.checkpoint='1'"], ["callbacks.checkpoint=1", "block of settings"]),
        (["train", "data._target_=anomaly_gan.data.module.class_index"], ["data"]),
        (["train", "scoring.embedding_size=21598236326"], ["not enough memory", "width"]),
        (["train", "callbacks.checkpoint.every_minutes=nan"], ["every_minutes=nan"]),
        # Numbers that would be met in the middle of a training, or after it.
        (["train", "method.temperature=0"], ["method.temperature=0", "above 0"]),
        (
            ["train", "method=csi_defects", "method.views.augment.output_size=0"],
            ["output_size=0", "at least 1"],
        ),
        (
            ["train", "debug=fast", "method=csi_defects", "image_size=64", "scoring.squares=-1"],
            ["scoring.squares=-1", "at least 1"],
        ),
        (["train", "method=deep_svdd", "scoring.embedding_size=-1"], ["embedding_size=-1", "at least 1"]),
        (["train", "method=ocgan", "scoring.latent_size=-1"], ["scoring.latent_size=-1", "at least 1"]),
        (["train", "method=geom", "optimizer=csi_lars", "optimizer.weight_decay=-1.0"], ["weight_decay=-1"]),
        (["train", "threshold.false_positive_rate=1e-310"], ["false_positive_rate=1e-310"]),
        (["train", "trainer.accelerator=cpu", "trainer.devices=1000"], ["batch_size=32", "1000"]),
    ],
)
def test_a_wrong_word_or_value_is_refused_in_one_line(
    command, arguments: list[str], words: list[str]
) -> None:
    refused(command(*arguments), *words)


@pytest.mark.parametrize("nothing", ["experiment=null", "debug=null"])
def test_a_group_that_is_null_anyway_can_be_said_to_be(command, nothing: str) -> None:
    outcome = command("train", nothing, "--cfg", "job")
    assert (outcome.code, outcome.err) == (0, "")


def test_the_help_of_evaluate_offers_no_group_that_it_refuses(command) -> None:
    outcome = command("evaluate", "--help")
    for group in ("ablation", "method", "score", "experiment", "debug"):
        assert f"{group}:" not in outcome.out


@pytest.mark.parametrize("normal_class", ["3", "ten"])
def test_another_normal_class_than_the_detector_s_is_refused(
    command, trained: Path, normal_class: str
) -> None:
    outcome = command("evaluate", f"checkpoint={trained}", f"normal_class={normal_class}")
    refused(outcome, f"normal_class={normal_class}")
    assert "'0'" in outcome.err or "valid: 0, 1" in outcome.err


def test_resuming_with_other_settings_is_refused(command, trained: Path, tmp_path: Path) -> None:
    settings = ("train", "debug=fast", "callbacks.checkpoint.every_minutes=0.0001", "paths.runs=first")
    assert command(*settings).code == 0
    (run,) = (tmp_path / "first" / "digits").iterdir()
    resume = f"resume={run / 'checkpoints' / 'last.ckpt'}"
    for change, word in (
        ("width=16", "scoring.width=8"),
        ("normal_class=3", "normal_class"),
        ("seed=1", "seed"),
    ):
        refused(command("train", "debug=fast", resume, change), word, "same settings")
    refused(command("train", "debug=fast", resume), "its run is finished; evaluate it")


def test_fewer_than_two_inliers_are_refused(command, tmp_path: Path) -> None:
    images(tmp_path / "one", 1)
    refused(command("train", "data=folder", "data.root=one"), "1 training image", "2 are needed")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n truncated"])
def test_a_file_that_cannot_be_decoded_is_named_before_training(
    command, tmp_path: Path, content: bytes
) -> None:
    images(tmp_path / "good", 9)
    (tmp_path / "good" / "bad.png").write_bytes(content)
    settings = ["train", "debug=fast", "data=folder", "data.root=good", "data.image_size=16"]
    refused(command(*settings), "bad.png", "data.on_corrupt=skip")
    outcome = command(*settings, "data.on_corrupt=skip", "batch_size=4", "data.calibration_fraction=0")
    assert outcome.code == 0, outcome.err
    assert "left out, could not be read: bad.png" in outcome.out


def test_a_test_set_without_anomalies_gives_no_auroc_and_says_so(command, tmp_path: Path) -> None:
    images(tmp_path / "set" / "train" / "good", 12)
    images(tmp_path / "set" / "test" / "good", 4)
    outcome = command("train", "debug=fast", "data=folder", "data.root=set", "data.image_size=16")
    assert outcome.code == 0, outcome.err
    assert "no anomalous images" in outcome.out
    (result,) = Path("runs").rglob("result.json")
    assert "NaN" not in result.read_text()


def test_an_output_folder_that_is_a_file_is_refused(command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    outcome = command("train", "debug=fast", "paths.runs=taken")
    refused(outcome, "taken", "paths.runs=")
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["data=folder", "data.root=others"], ["dataset", "digits"]),
        (["data=digits", "normal_class=3"], ["normal_class=3", "'0'"]),
        (["data=folder", "data.root=others", "data.name=digits", "data.image_size=32"], ["normal_class"]),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(
    command, trained: Path, tmp_path: Path, change: list[str], words: list[str]
) -> None:
    images(tmp_path / "others", 5)
    refused(command("evaluate", f"checkpoint={trained}", *change), *words)


@pytest.mark.parametrize("output", ["/proc/x", "good/0.png/x", "nowhere/x", "."])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_scored(
    command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    images(tmp_path / "good", 2)
    monkeypatch.setattr(Detector, "load", lambda *_: pytest.fail("a detector was loaded"))
    refused(
        command("predict", f"checkpoint={trained}", "inputs=good", f"output={output}"), f"output={output}"
    )


def test_a_full_disk_ends_a_run_in_one_line(command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(train, "write_atomically", full)
    refused(command("train", "debug=fast"), "config.yaml: No space left on device", "paths.runs=")


@pytest.mark.parametrize(
    "setting", ["checkpoint=text", "generator_metrics.inception_weights=text", "checkpoint=short"]
)
def test_a_file_of_other_bytes_is_refused(command, trained: Path, tmp_path: Path, setting: str) -> None:
    (tmp_path / "text").write_text("root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin\n")
    (tmp_path / "short").write_bytes(b"}q")
    key = setting.split("=")[0]
    others = ["ablation=full", "debug=fast"] if key.startswith("generator") else []
    refused(command("train" if others else "evaluate", setting, *others), setting, "damaged")


@pytest.mark.parametrize("length", [5_000, 20_000])
def test_a_detector_cut_short_is_refused_in_one_line(
    command, trained: Path, tmp_path: Path, length: int
) -> None:
    (tmp_path / "detector.ckpt").write_bytes((trained / "detector.ckpt").read_bytes()[:length])
    refused(command("evaluate", "checkpoint=detector.ckpt"), "detector.ckpt", "damaged")


@pytest.mark.parametrize(
    ("part", "key"),
    [("config", None), ("data", None), ("state_dict", None), ("data", "class_names"), ("config", "method")],
)
def test_a_detector_that_lacks_a_part_is_refused(
    command, trained: Path, tmp_path: Path, part: str, key: str | None
) -> None:
    content = torch.load(trained / "detector.ckpt", weights_only=True)
    del (content if key is None else content[part])[key or part]
    torch.save(content, tmp_path / "detector.ckpt")
    refused(command("evaluate", "checkpoint=detector.ckpt"), f"{part}.{key}" if key else part, "missing")


@pytest.mark.parametrize("damage", ["cut", "noise", "other", "pickle"])
def test_a_file_that_is_no_detector_is_refused(command, trained: Path, tmp_path: Path, damage: str) -> None:
    images(tmp_path / "good", 2)
    bad = tmp_path / "detector.ckpt"
    whole = (trained / "detector.ckpt").read_bytes()
    if damage == "cut":
        bad.write_bytes(whole[: len(whole) // 2])
    elif damage == "noise":
        bad.write_bytes(b"no detector at all")
    elif damage == "other":
        torch.save({"weights": torch.zeros(3)}, bad)
    else:
        torch.save({"format": Path("a class the loader may not build")}, bad)
    refused(command("predict", "checkpoint=detector.ckpt", "inputs=good"), "detector.ckpt")


def test_weights_of_another_shape_are_refused(trained: Path, tmp_path: Path) -> None:
    file = checkpoint.read(trained)
    file.config["scoring"]["width"] = 16
    with pytest.raises(UserError, match="do not fit"):
        file.build()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "anomaly_gan.scoring.neighbours.torch.load",
        "anomaly_gan.scoring.neighbours.make_rng",
        "anomaly_gan.cli.main.run",
        "anomaly_gan.methods_of_mine.os.system",
        "anomaly_gan.methods.nothing.Here",
        "anomaly_gan.training.optimizers.Adam",
    ],
)
def test_a_checkpoint_can_only_name_what_scoring_is_made_of(trained: Path, target: str) -> None:
    file = checkpoint.read(trained)
    file.config["scoring"]["views"]["augment"] = {"_target_": target}
    with pytest.raises(UserError, match=r"scoring\.views\.augment\._target_"):
        file.build()


def test_an_argument_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"crop_scale"):
        build(
            {"_target_": "anomaly_gan.transforms.augment.Augment", "crop_scal": [0.1, 1.0]},
            "augment",
            ("transforms",),
        )


def test_missing_arguments_are_named() -> None:
    with pytest.raises(UserError, match=r"logger.csv.folder=\.\.\."):
        build({"_target_": "anomaly_gan.loggers.csv"}, "logger.csv", ("loggers",))
