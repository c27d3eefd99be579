"""anomaly-gan demo: a page in the browser."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_gan import Detector, demo


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    return Detector.load(trained)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_verdict_says_decision_score_and_p_value(detector: Detector, photo: Path) -> None:
    explanation = detector.explain(photo)
    said = demo.said(explanation, detector)
    decision = "anomalous" if explanation.anomalous else "normal"
    assert said.startswith(f"## {decision}\ncsi_ens score {explanation.score:.4f}")
    assert f"above {explanation.threshold:.4f}" in said
    assert f"p = {explanation.p_value:.4f}" in said
    undecided = dataclasses.replace(explanation, anomalous=None, p_value=None, threshold=None)
    assert "No decision" in demo.said(undecided, detector)


def test_the_drawing_is_a_picture_and_nothing_of_it_is_kept_open(detector: Detector, photo: Path) -> None:
    from matplotlib import pyplot as plt

    drawn = demo.drawn(detector.explain(photo))
    assert drawn.format == "PNG"
    assert min(drawn.size) > 300
    assert not plt.get_fignums()


def test_without_gradio_the_command_says_what_to_install(
    command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    done = command("demo", f"checkpoint={trained}")
    assert done.code == 2
    assert "pip install 'anomaly-gan[demo]'" in done.err


@pytest.mark.parametrize("port", ["0", "70000", "http", "true"])
def test_a_port_that_is_none_is_refused(command, trained: Path, port: str) -> None:
    done = command("demo", f"checkpoint={trained}", f"port={port}")
    assert done.code == 2
    assert f"port={port.capitalize() if port == 'true' else port}" in done.err


def test_a_file_that_is_no_picture_is_named_without_its_folder(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no picture")
    said, drawing = demo.judge(detector, str(tmp_path / "text.png"))
    assert said.startswith("**This file cannot be judged.** text.png: not a readable image")
    assert str(tmp_path) not in said
    assert drawing is None


SERVED_AND_ASKED = """
import json, sys
from anomaly_gan import Detector, demo
from gradio_client import Client, handle_file

blocks = demo.page(Detector.load(sys.argv[1]))
_, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
client = Client(address, verbose=False, analytics_enabled=False)
said = [client.predict(handle_file(path), api_name="/judge") for path in sys.argv[2:]]
print(json.dumps([(text, picture["visible"]) for text, picture in said]))
blocks.close()
"""


def test_the_page_judges_what_is_uploaded(detector: Detector, trained: Path, photo: Path) -> None:
    pytest.importorskip(
        "gradio_client", reason="gradio, the extra `demo`, is not installed: it is not part of dev"
    )
    (photo.parent / "text.png").write_text("this is no picture")
    # In a process of its own, because gradio leaves sockets open.
    program = [sys.executable, "-c", SERVED_AND_ASKED, trained, photo, photo.parent / "text.png"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    judged, refused = json.loads(done.stdout.splitlines()[-1])
    assert judged == [demo.said(detector.explain(photo), detector), True]
    assert refused[0].startswith("**This file cannot be judged.** text.png: not a readable image")
    assert not refused[1]
