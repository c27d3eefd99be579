"""What a person reads at the end of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomaly_gan.metrics.localisation import LIMIT
from anomaly_gan.results import HELD_OUT_FILE, PAGE_FILE, RESULT_FILE, THRESHOLDS_FILE, RunResult
from anomaly_gan.runs.parts import DETECTOR_FILE, FIGURES_FOLDER
from anomaly_gan.runs.record import ranked
from anomaly_gan.scoring.raw_pixels import RawPixels


def summary(result: RunResult, folder: Path) -> str:
    """What a person wants to read at the end of a run."""
    lines = [f"{result.dataset}, normal class {result.normal_class!r}, seed {result.seed}"]
    if result.auroc_absent_because:
        lines.append(f"AUROC: absent, {result.auroc_absent_because}")
    else:
        rows = [(name, result.auroc[name], result.auroc_interval[name]) for name in ranked(result)]
        rows += [(name, value, None) for name, value in result.auroc_parts.items()]
        if RawPixels.primary not in result.auroc:
            yardstick = "raw pixels, nearest neighbour"
            rows.append((yardstick, result.auroc_raw_pixels, result.auroc_raw_pixels_interval))
        lines.append("AUROC, %")
        for name, value, interval in rows:
            assert value is not None
            spread = f"  ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
            mark = "  <- ranks" if name == result.primary else ""
            lines.append(f"  {name:<30} {100 * value:5.1f}{spread}{mark}")
    if result.localisation is not None:
        lines.append(_of_places(result.localisation))
    lines += _of_threshold(result.calibration)
    if result.generator is not None:
        floor = result.generator["floor"] or {}
        lines.append("synthetic images (beside: real test images of the class)")
        for name, value in result.generator["generated"].items():
            beside = f"  ({floor[name]:.3g})" if floor.get(name) is not None else ""
            lines.append(f"  {name:<30} {'absent' if value is None else format(value, '.3g')}{beside}")
    lines += [f"note: {note}" for note in result.notes]
    lines += [
        f"page:      {folder / PAGE_FILE}" if (folder / PAGE_FILE).exists() else "",
        f"held out:  {folder / HELD_OUT_FILE}" if (folder / HELD_OUT_FILE).exists() else "",
        f"thresholds: {folder / THRESHOLDS_FILE}" if (folder / THRESHOLDS_FILE).exists() else "",
        f"pictures:  {folder / FIGURES_FOLDER}" if (folder / FIGURES_FOLDER).exists() else "",
        f"results:   {folder / RESULT_FILE}",
        f"detector:  {folder / DETECTOR_FILE}" if (folder / DETECTOR_FILE).exists() else "",
    ]
    return "\n".join(line for line in lines if line)


def _of_places(found: Mapping[str, Any]) -> str:
    return (
        f"places: pixel AUROC {100 * found['pixel_auroc']:.1f}, AUPRO {100 * found['aupro']:.1f} (to a false "
        f"positive rate of {LIMIT:g}; {found['regions']} regions of masks)"
    )


def _of_threshold(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["threshold: none, no normal images were held out (data.calibration_fraction)"]
    lines = [
        f"threshold: {found['score']} above {found['threshold']:.4g} is anomalous; promised: at most "
        f"{found['false_positive_rate']:.2%} false alarms ({found['held_out']} held-out images)"
    ]
    for key, what in (("false_alarms", "false alarms in {} normal"), ("found", "found of {} anomalous")):
        if found[key] is not None:
            spread = found[key].get("expected_interval")
            beside = f"  (95 % of such tests: {spread[0]:.2%} to {spread[1]:.2%})" if spread else ""
            what = what.format(found[key]["tested"]) + " test images"
            lines.append(f"  {what:<42} {found[key]['rate']:7.2%}{beside}")
    return lines
