"""A page in the browser: drop a picture, see what the detector says of it and why."""

import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from PIL import Image

from anomaly_gan.errors import UserError
from anomaly_gan.explanation import Explanation
from anomaly_gan.inference import Detector
from anomaly_gan.reporting import explanations, figures

SHARPNESS = 130
"""Of the drawing, dots per inch."""

KEPT = 3600
"""Seconds after which uploaded pictures are deleted; what is left then goes when the page ends."""


def serve(detector: Detector, host: str, port: int) -> None:
    """Serve the page until it is interrupted.

    Raises:
        UserError: gradio is not installed, or the port cannot be used.
    """
    blocks = page(detector)
    import gradio

    # The machine's own letters: gradio's would come from elsewhere.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            theme=theme,
            footer_links=[],
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(f"port={port}: cannot be used on {host}; port=N chooses another") from error
    print(f"open http://{host}:{port} in a browser; Ctrl-C ends it", flush=True)
    try:
        blocks.block_thread()
    finally:
        blocks.close(verbose=False)  # which deletes what was uploaded; a signal's exception passes gradio by


def page(detector: Detector) -> Any:
    """The page, a `gradio.Blocks`.

    Raises:
        UserError: gradio is not installed.
    """
    if find_spec("gradio") is None:
        raise UserError("gradio is not installed; pip install 'anomaly-gan[demo]'")
    # Before gradio is loaded: it would tell its makers, and ask for a newer version of itself.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    def shown(path: str | None) -> tuple[str, Any]:
        text, drawing = ("", None) if path is None else judge(detector, path)
        return text, gradio.Image(drawing, visible=drawing is not None)

    with gradio.Blocks(title="anomaly_gan", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as blocks:
        gradio.Markdown("# Normal or anomalous?\nDrop a picture: PNG, JPEG, BMP, TIFF or WebP.")
        # A file and not an image: gradio would hand on a picture that it has written anew.
        file = gradio.File(label="picture", height=120)
        verdict = gradio.Markdown()
        picture = gradio.Image(
            show_label=False,
            format="png",
            interactive=False,
            visible=False,
            buttons=["fullscreen", "download"],  # and not "share", which would send it away
        )
        file.change(shown, file, [verdict, picture], api_name="judge")
    return blocks


def judge(detector: Detector, path: str) -> tuple[str, Image.Image | None]:
    """What is said of a file, in Markdown, and a drawing of why; None where it cannot be read."""
    try:
        explanation = detector.explain(path)
    except UserError as error:
        reason = str(error).replace(path, Path(path).name)  # where gradio keeps it concerns nobody
        return f"**This file cannot be judged.** {reason}", None
    return said(explanation, detector), drawn(explanation)


def said(explanation: Explanation, detector: Detector) -> str:
    """Decision, score and p-value in Markdown."""
    score = f"{detector.primary} score {explanation.score:.4f}, higher = more anomalous"
    if explanation.anomalous is None:
        return f"## {score}\nNo decision: no normal images were held out when the detector was trained."
    decision = "anomalous" if explanation.anomalous else "normal"
    return (
        f"## {decision}\n{score}; anomalous above {explanation.threshold:.4f}. "
        f"p = {explanation.p_value:.4f}: so often a normal image scores as high."
    )


def drawn(explanation: Explanation) -> Image.Image:
    """The picture as the detector sees it, heat, reconstruction, rotations and nearest normal images."""
    figure = explanations.page(explanation)
    figures.as_written(figure)
    content = io.BytesIO()
    try:
        figure.savefig(content, format="png", dpi=SHARPNESS)
    finally:
        plt.close(figure)
    return Image.open(content)
