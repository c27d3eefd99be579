"""AUROC over the training, from the results of runs, beside CSI's released code at the same budget.

python benchmarks/learning_curves.py --out docs/figures/learning_curves.png results/cifar10_jpeg_cpu/*.json
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from anomaly_gan.results import RunResult

RELEASED_CODE = {
    "automobile": {157: 82.9, 314: 85.3, 628: 87.7, 942: 89.6},
    "ship": {314: 86.5, 628: 87.2},
}
"""CSI's released modules, width 16, batch 32, Adam 2e-4, one draw at crop scale 0.54: AUROC in percent."""

PARTS = {"csi_ens": "csi", "contrastive_ens": "contrastive part", "shift_ens": "shift part"}


def curve(result: RunResult, name: str) -> dict[int, float]:
    """AUROC in percent by iteration, the end included."""
    points = {point["iteration"]: 100 * point["auroc"][name] for point in result.curve}
    end = (result.auroc | result.auroc_parts)[name]
    assert end is not None
    return points | {result.iterations: 100 * end}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    results = [RunResult.read(path) for path in arguments.results]
    classes = sorted({result.normal_class for result in results})
    figure, panels = plt.subplots(
        1, len(classes), figsize=(5.5 * len(classes), 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, normal_class in zip(panels[0], classes, strict=True):
        runs = [result for result in results if result.normal_class == normal_class]
        for (name, label), color in zip(PARTS.items(), ("#1f5fa8", "#c1440e", "#2a7f62"), strict=True):
            for i, run in enumerate(runs):
                points = curve(run, name)
                axes.plot(
                    points.keys(),
                    points.values(),
                    color=color,
                    linewidth=2 if name == "csi_ens" else 1,
                    marker="o",
                    markersize=3,
                    label=f"{label}, {len(runs)} seed{'s' * (len(runs) > 1)}" if i == 0 else None,
                )
        if normal_class in RELEASED_CODE:
            reference = RELEASED_CODE[normal_class]
            axes.plot(
                reference.keys(), reference.values(), "k--", marker="x", label="csi, CSI's released code"
            )
        axes.set(xlabel="iterations of 32 images", title=f"{runs[0].dataset}, normal: {normal_class}")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="center right")
    panels[0, 0].set_ylabel("AUROC, %")
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
