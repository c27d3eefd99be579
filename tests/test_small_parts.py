"""Random streams, progress, device, atomic writing."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_gan.allocator import keep_memory
from anomaly_gan.cli.decided import _why_none, doubt
from anomaly_gan.cli.tally import Tally
from anomaly_gan.cli.trainer import make_trainer
from anomaly_gan.device import choose, choose_precision
from anomaly_gan.errors import UserError, nearest
from anomaly_gan.launch import started_outside
from anomaly_gan.progress import Progress, track
from anomaly_gan.randomness import derive_seed, make_rng
from anomaly_gan.results import machine, versions, write_atomically, write_csv
from anomaly_gan.safe_load import safe_load
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.strategies import SharedBatch


def test_a_stream_is_a_function_of_its_keys_and_of_all_of_them() -> None:
    keys = [
        (0, "step", 1, 0),
        (0, "step", 2, 0),
        (1, "step", 1, 0),
        (0, "batches", 1, 0),
        (0, "step", 1, 1),
    ]
    draws = [torch.rand(4, generator=make_rng("cpu", *key)) for key in keys]
    again = [torch.rand(4, generator=make_rng("cpu", *key)) for key in keys]
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)


def test_seeds_stay_the_same_between_versions() -> None:
    # A published result names its seed: what it stands for may not change.
    assert derive_seed(0, "step", 0, 0) == 5763866446675112022
    assert derive_seed(7, "batches", 3) == 2285768265886519884


def test_work_that_takes_long_says_how_far_it_is_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("scoring", total=4, unit="images", seconds_between_lines=0.0)
    for _ in range(4):
        progress.advance(note="loss 1.5")
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("scoring: 1/4 (25%), ")
    assert "loss 1.5" in lines[0]
    assert lines[-1].startswith("scoring: 4/4 (100%), ")
    assert not any("\r" in line for line in lines)


def test_work_of_a_moment_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "counting", 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(track(range(3), "counting", 3)) == [0, 1, 2]
    assert "counting" in capsys.readouterr().err


def test_devices_that_are_not_there_are_refused() -> None:
    assert choose("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="cpu"):
        choose("cpuu")
    if not torch.cuda.is_available():
        assert choose("auto") == torch.device("cpu")
        with pytest.raises(UserError, match="device=cpu"):
            choose("cuda")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_csv_keeps_every_digit_of_a_float32(tmp_path: Path) -> None:
    values = torch.rand(50).tolist()
    write_csv(tmp_path / "t.csv", {"value": values, "name": ["a,b"] * 50})
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[0] == "value,name"
    assert torch.equal(torch.tensor([float(row.split(",")[0]) for row in rows[1:]]), torch.tensor(values))
    assert rows[1].endswith('"a,b"')


def test_results_name_versions_and_the_kind_of_machine_but_no_place() -> None:
    assert torch.__version__.startswith(versions()["torch"])
    assert "threads of" in machine()
    assert str(Path.home()) not in json.dumps(versions()) + machine()


def test_glibc_takes_the_settings_of_the_allocator() -> None:
    import platform

    assert keep_memory() is (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize(
    ("word", "message"),
    [("digit", "did you mean digits?"), ("zzz", "valid: digits, cifar10")],
)
def test_a_misspelt_word_gets_its_nearest_or_all(word: str, message: str) -> None:
    assert nearest(word, ["digits", "cifar10"]) == message


@pytest.mark.parametrize(
    ("environment", "devices_and_nodes"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "0"}, (4, 2)),
        ({"SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "interactive"}, None),
    ],
)
def test_who_has_started_this_process_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], devices_and_nodes: tuple[int, int] | None
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_PROCID", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert started_outside() == devices_and_nodes


@pytest.mark.parametrize(("precision", "accelerator", "meant"), [
    ("auto", "cpu", "32-true"), ("bf16-mixed", "cpu", "bf16-mixed"), ("32-true", "gpu", "32-true"),
])  # fmt: skip
def test_precision_is_float32_where_nothing_is_said_on_a_cpu(
    precision: str, accelerator: str, meant: str
) -> None:
    assert choose_precision(precision, accelerator) == meant


@pytest.mark.parametrize(
    ("capabilities", "meant"),
    [({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed"), ({"avx2": True}, "32-true")],
)
def test_the_fastest_precision_is_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], meant: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("fastest", "cpu") == meant
    assert choose_precision("auto", "cpu") == "32-true"


def test_the_fastest_precision_is_float32_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("fastest", "cpu") == "32-true"


def test_a_slurm_job_of_one_task_can_have_several_processes_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "job"}.items():
        monkeypatch.setenv(name, value)
    settings = {"accelerator": "cpu", "devices": 2, "precision": "auto"}
    settings |= {"compile": False, "cuda_graphs": False}
    trainer = make_trainer(settings, logger=False)
    assert trainer.world_size == 2
    assert isinstance(trainer.strategy, SharedBatch)


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "detector.ckpt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="damaged"):
        safe_load(path, "damaged")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        safe_load(path, "damaged")


@pytest.mark.parametrize("count", [3, 6, 7, 9])
def test_no_more_images_are_asked_for_than_there_are(count: int) -> None:
    """With nine held-out images and fdr=0.1 all would have to; in floats 3 * 0.1 / 0.1 is above 3."""
    found = Tally(0)
    found.scored = count
    threshold = Threshold(0.5, 0.1, np.linspace(0, 0.4, 9))
    assert f"at least {count} of these {count}" in _why_none(found, threshold, 0.1)


@pytest.mark.parametrize(("scored", "anomalous", "said"), [(20, 11, True), (20, 10, False), (19, 19, False)])
def test_a_promise_is_doubted_where_more_than_half_of_many_images_are_called_anomalous(
    scored: int, anomalous: int, said: bool
) -> None:
    told = doubt(Tally(kept=0, scored=scored, anomalous=anomalous))
    assert (told is not None and "data.group" in told) == said
