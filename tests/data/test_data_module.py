import json
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from anomaly_gan.data import module
from anomaly_gan.data.digits import Digits
from anomaly_gan.data.image_set import Batch, ImageSet
from anomaly_gan.data.module import class_index
from anomaly_gan.errors import UserError


def digits(**options: Any) -> Digits:
    data = Digits(**{"normal_class": 3, "batch_size": 8, "total_images": 100} | options)
    data.setup()
    return data


@pytest.mark.parametrize(("fraction", "held_out"), [(0.0, 0), (0.1, 11), (0.5, 55), (0.999, 109)])
def test_calibration_images_are_never_trained_on(fraction: float, held_out: int) -> None:
    data = digits(calibration_fraction=fraction, batch_size=1)
    everything = digits(calibration_fraction=0).train.names
    assert len(everything) == 110
    assert len(data.calibration) == held_out
    assert sorted(data.train.names + data.calibration.names) == everything
    assert data.train.names == sorted(data.train.names)
    assert len(list(data.calibration_loader())) == (held_out > 0)


def test_what_is_chosen_by_gives_no_threshold_and_is_not_trained_on() -> None:
    data = digits(calibration_fraction=0.1, validation_fraction=0.15)
    parts = [data.train.names, data.calibration.names, data.validation.names]
    assert sorted(name for part in parts for name in part) == digits(calibration_fraction=0).train.names
    assert [len(part) for part in parts] == [82, 11, 17]
    assert data.calibration.names == digits(calibration_fraction=0.1).calibration.names
    assert digits(calibration_fraction=0, validation_fraction=0.15).calibration.names == []


def test_the_held_out_part_follows_from_the_seed_alone() -> None:
    first, again, other = digits(seed=0), digits(seed=0, batch_size=4), digits(seed=1)
    assert first.calibration.names == again.calibration.names
    assert first.calibration.names != other.calibration.names


def test_a_second_setup_changes_nothing() -> None:
    data = digits()
    train = data.train
    data.setup("fit")
    assert data.train is train
    assert (data.normal_index, data.normal_class) == (3, "3")


@pytest.mark.parametrize(("total", "batch", "iterations"), [(100, 8, 13), (96, 8, 12), (1, 8, 1)])
def test_iterations_round_up(total: int, batch: int, iterations: int) -> None:
    data = digits(total_images=total, batch_size=batch)
    assert data.iterations == iterations
    assert len(list(data.train_dataloader())) == len(data.train_dataloader()) == iterations


def test_passes_are_over_the_images_that_are_trained_on_and_a_number_of_images_goes_before_them() -> None:
    data = digits(total_images=None, passes=2.5)
    assert data.total_images == 248  # 99 images, and some held out
    assert data.iterations == 31
    assert sum(len(batch.images) for batch in data.train_dataloader()) == 248
    assert digits(total_images=100, passes=2.5).total_images == 100


def test_training_batches_are_full_uint8_and_hold_the_normal_class_only() -> None:
    data = digits()
    for batch in data.train_dataloader():
        assert isinstance(batch, Batch)
        assert batch.images.shape == (8, 1, 16, 16)
        assert batch.images.dtype == torch.uint8
        assert set(batch.labels.tolist()) == {3}
        assert torch.equal(batch.images, data.train[batch.index.tolist()].images)


def test_training_resumes_at_start_iteration() -> None:
    data = digits()
    whole = [batch.index.tolist() for batch in data.train_dataloader()]
    data.start_iteration = 9
    assert [batch.index.tolist() for batch in data.train_dataloader()] == whole[9:]


@pytest.mark.parametrize("part", ["bank", "calibration", "test"])
def test_evaluation_loaders_visit_every_image_once_in_order(part: str) -> None:
    data = digits(evaluation_batch_size=50)
    batches = list(getattr(data, f"{part}_loader")())
    images: ImageSet = getattr(data, {"bank": "train"}.get(part, part))
    assert torch.cat([batch.index for batch in batches]).tolist() == [*range(len(images))]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), images.labels)
    assert {len(batch.index) for batch in batches[:-1]} <= {50}


def test_describe_is_plain_and_its_counts_add_up() -> None:
    data = digits()
    described = data.describe()
    assert json.loads(json.dumps(described)) == described
    counts = described["counts"]
    assert (counts["train"], counts["calibration"], counts["test"], counts["skipped"]) == (99, 11, 719, 0)
    assert counts["test_normal"] == int((data.test.labels == 3).sum())
    assert counts["test_normal"] + counts["test_anomalous"] == 719


def test_train_limit_takes_training_images_alone_and_a_larger_one_adds_to_them() -> None:
    whole, few, more = digits(), digits(train_limit=20), digits(train_limit=50)
    assert (len(few.train), len(more.train)) == (20, 50)
    assert set(few.train.names) < set(more.train.names) < set(whole.train.names)
    assert few.train.names == sorted(few.train.names)
    assert few.calibration.names == whole.calibration.names
    assert few.test.names == whole.test.names
    assert digits(train_limit=20, seed=1).train.names != few.train.names
    assert digits(train_limit=100_000).train.names == whole.train.names


def test_limit_keeps_the_classes_in_proportion() -> None:
    data = digits(limit=50)
    assert len(data.train) + len(data.calibration) == 50
    assert len(data.test) == 50
    assert len(set(data.test.names)) == 50
    assert len(data.test.labels.unique()) == 10
    assert digits(limit=100_000).test.names == digits().test.names


def test_a_name_of_ones_own_labels_the_results() -> None:
    assert digits().describe()["dataset"] == "digits"
    assert digits(name="mine").describe()["dataset"] == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"total_images": 0}, "total_images=0 must be at least 1"),
        ({"total_images": None}, "schedule.passes=None: give a number above 0, or schedule.total_images"),
        ({"total_images": None, "passes": 0}, "schedule.passes=0: give a number above 0"),
        ({"total_images": None, "passes": float("inf")}, "schedule.passes=inf: give a number above 0"),
        ({"evaluation_batch_size": 0}, "evaluation_batch_size=0 must be at least 1"),
        ({"calibration_fraction": 1.0}, "data.calibration_fraction=1.0 must be at least 0 and below 1"),
        ({"calibration_fraction": -0.1}, "data.calibration_fraction=-0.1"),
        ({"validation_fraction": 1}, "data.validation_fraction=1 must be at least 0 and below 1"),
        ({"validation_fraction": 0.9}, "data.validation_fraction=0.9 must be below 1 together"),
        ({"validation_fraction": 0.01}, "data.validation_fraction=0.01: 1 of 110 normal images"),
        ({"limit": 1}, "data.limit=1 must be at least 2"),
        ({"train_limit": 1}, "data.train_limit=1 must be at least 2"),
        ({"normal_class": "tree"}, "normal_class=tree is no class of digits: valid: 0, 1, 2, 3"),
        ({"normal_class": 10}, "normal_class=10 is no class of digits"),
        ({"normal_class": -1}, "normal_class=-1 is no class of digits"),
    ],
)
def test_arguments_that_cannot_be_used_name_the_remedy(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        digits(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_normal_images_are_refused(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = digits().train
    monkeypatch.setattr(Digits, "load_train", lambda self, normal_index: whole.subset([*range(count)]))
    with pytest.raises(UserError, match=rf"class 3 of digits has {count} training image\(s\), 2 are needed"):
        digits()


@pytest.mark.parametrize(
    ("wanted", "index"), [("cat", 0), ("2", 1), (2, 1), (0, 0), (1, 1), ("0", 0), ("dog", 2)]
)
def test_a_class_is_its_name_first_and_else_its_index(wanted: int | str, index: int) -> None:
    assert class_index(wanted, ("cat", "2", "dog"), "pets") == index


def test_a_misspelt_class_gets_the_nearest_and_all_names() -> None:
    with pytest.raises(
        UserError, match=r"did you mean airplane\? valid: airplane, ship \(or an index 0\.\.1\)"
    ):
        class_index("airplan", ("airplane", "ship"), "cifar10")


class Recorder(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch, _: int) -> None:
        assert isinstance(batch, Batch)
        self.seen.append(batch.index.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own, under a new torch
def test_lightning_passes_through_the_run_as_one_epoch(tmp_path: Any) -> None:
    data, recorder = digits(), Recorder()
    pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(recorder, datamodule=data)
    assert recorder.seen == [batch.index.tolist() for batch in digits().train_dataloader()]


class Ranks:
    global_rank, world_size = 1, 4


def test_under_several_processes_each_takes_its_slice() -> None:
    whole = [batch.index.tolist() for batch in digits().train_dataloader()]
    data = digits()
    data.trainer = Ranks()  # type: ignore[assignment]
    assert [batch.index.tolist() for batch in data.train_dataloader()] == [batch[2:4] for batch in whole]
    data.batch_size = 3
    with pytest.raises(UserError, match="batch_size=3 cannot be shared between 4 processes"):
        data.train_dataloader()


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_several_processes_score_each_image_once_in_the_batches_of_one(processes: int) -> None:
    data = digits()
    data.evaluation_batch_size = 7
    alone = [batch.index.tolist() for batch in data.test_loader()]
    parts = [[b.index.tolist() for b in data.test_loader(i, processes)] for i in range(processes)]
    assert [batch for part in parts for batch in part] == alone
    assert all(parts)


def test_more_processes_than_images_to_score_are_refused() -> None:
    data = digits()
    with pytest.raises(UserError, match=r"choose fewer trainer\.devices"):
        data.test_loader(0, 10_000)


def test_a_batch_of_large_images_has_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits(calibration_fraction=0.5)
    assert [len(batch.index) for batch in data.calibration_loader()] == [55]
    monkeypatch.setattr(module, "LARGEST_BATCH", 21 * 4 * data.channels * data.image_size**2)
    assert [len(batch.index) for batch in data.calibration_loader()] == [21, 21, 13]
    monkeypatch.setattr(module, "LARGEST_BATCH", 1)
    assert {len(batch.index) for batch in data.calibration_loader()} == {1}


def test_fewer_training_images_than_a_batch_make_a_smaller_batch_and_that_is_noted() -> None:
    data = digits(batch_size=200, total_images=500)
    assert data.batch_size == len(data.train) < 200
    assert data.iterations == -(-500 // len(data.train))
    assert data.notes == [f"batch_size={len(data.train)}: by rule, there are no more training images"]
    batches = list(data.train_dataloader())
    assert len(batches) == data.iterations
    assert all(len(batch.images) == len(data.train) for batch in batches)


def test_fewer_images_to_score_than_processes_are_refused_before_the_training() -> None:
    data = digits(batch_size=8)
    data.check_processes(3)
    assert data.test is not None
    data.test = data.test.subset([0, 1])
    with pytest.raises(UserError, match="3 processes for 2 images"):
        data.check_processes(3)
