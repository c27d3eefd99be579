"""What was found before a redesign is found after it: weights and scores of short trainings, as recorded.

On a machine like the one that recorded, 30 iterations give the same to the last bit. Another processor adds
up in another order, of which so many steps make as much as a seed does; after two iterations, one of them of
all lines, little comes of it. `python tests/test_no_number_moves.py` records anew.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan import results

RECORDED = Path(__file__).parent / "recorded" / "numbers.json"

COMMON = "width=8 batch_size=8 data.limit=60 trainer.accelerator=cpu trainer.precision=32-true"
COMMON += " scoring.ensemble=2 seed=0"

LENGTHS = {
    "long": "schedule.total_images=240 method.every=5",
    "brief": "schedule.total_images=16 method.every=2",
}

COMMANDS = {
    "digits csi": "data=digits normal_class=4 ablation=csi",
    "digits csi_g": "data=digits normal_class=4 ablation=csi_g networks=standard",
    "digits full": "data=digits normal_class=4 ablation=full networks=standard optimizer=adam_fast",
    "pictures full": "data=folder data.root=pictures data.image_size=32 data.channels=3 ablation=full",
}


def pictures(folder: Path) -> None:
    """Coloured shapes: 40 normal ones to learn from, 10 and 10 others to test on."""
    rows, columns = np.mgrid[:32, :32]
    for part, count in (("train/good", 40), ("test/good", 10), ("test/square", 10)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([len(part), i])
            y, x, radius = rng.integers((10, 10, 5), (22, 22, 9))
            round_one = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            square = np.maximum(abs(rows - y), abs(columns - x)) < radius
            pixels = rng.integers(0, 90, (32, 32, 3))
            pixels[square if part.endswith("square") else round_one] += rng.integers(60, 160, 3)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / part / f"{i}.png")


def machine() -> str:
    """What the last bits hang on: processor, its caches and instructions, threads, torch."""
    cpu = Path("/proc/cpuinfo")
    kept = ("cpu family", "model", "stepping", "cache size", "flags")
    lines = cpu.read_text().split("\n\n")[0].splitlines() if cpu.exists() else []
    kind = hashlib.sha256("".join(line for line in lines if line.startswith(kept)).encode()).hexdigest()[:12]
    return f"{results.machine()}, kind {kind}, torch {torch.__version__}"


def train(name: str, length: str) -> dict:
    """Train in the current folder, on one thread; what is recorded."""
    from anomaly_gan import checkpoint
    from anomaly_gan.cli.main import main

    if "pictures" in name:
        pictures(Path("pictures"))
    settings = f"{COMMON} {COMMANDS[name]} {LENGTHS[length]} name=run"
    sys.argv = ["anomaly-gan", "train", *settings.split()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.raises(SystemExit, match="0"):
        main()
    torch.set_num_threads(threads)
    (run,) = Path("runs/run").iterdir()
    # F as it scores, and the other networks as the training left them.
    scorer = checkpoint.read(run).state_dict
    trained = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    weights = {key: value for key, value in scorer.items() if key.startswith("network.")}
    others = {key: value for key, value in trained.items() if key.startswith("networks.")}
    weights |= {key: value for key, value in others.items() if "feature_extractor" not in key}
    parameters = sorted(
        hashlib.sha256(value.numpy().tobytes()).hexdigest()[:12]
        for value in weights.values()
        if value.is_floating_point() and value.numel() > 1
    )
    header, *rows = [line.split(",") for line in (run / "scores.csv").read_text().splitlines()]
    first = header.index("decision") + 1
    return {
        "digest_of_scores": hashlib.sha256((run / "scores.csv").read_bytes()).hexdigest()[:12],
        "digest_of_weights": hashlib.sha256("".join(parameters).encode()).hexdigest()[:12],
        "scores": {
            column: [float(f"{float(row[first + i]):.5g}") for row in rows]
            for i, column in enumerate(header[first:])
        },
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * ("full" in name)) for name in COMMANDS]
)
def test_a_short_training_finds_what_was_recorded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    recorded = json.loads(RECORDED.read_text())
    if recorded["machine"] == machine():
        assert train(name, "long") == recorded["long"][name]
        return
    before, found = recorded["brief"][name]["scores"], train(name, "brief")["scores"]
    assert list(found) == list(before)
    for column, scores in before.items():
        np.testing.assert_allclose(found[column], scores, atol=0.5 * np.std(scores), err_msg=column)


if __name__ == "__main__":
    import tempfile

    numbers: dict = {"machine": machine()}
    for length in LENGTHS:
        numbers[length] = {}
        for name in COMMANDS:
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                numbers[length][name] = train(name, length)
                os.chdir(RECORDED.parent)
    RECORDED.write_text(json.dumps(numbers) + "\n")
