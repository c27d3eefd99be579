"""AUROC over minutes of training: the eight methods of the paper's Table 1 that learn, on the same axes.

Lengths are multiples of those of experiment=table1_cpu, which are counted in images: two minutes of training
on one core of a Xeon with AMX. Each point is a training of its own, since learning rates fall towards its
end; those of two minutes are read from the results of that experiment. A run goes on where it was ended.

    python benchmarks/minutes.py DATA_FOLDER --json results/minutes.json --picture docs/figures/minutes.png
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from common import write
from matplotlib import pyplot as plt
from recipes import train

from anomaly_gan.results import RunResult

METHODS = ["deep_svdd", "ocgan", "geom", "rot_trans", "goad", "csi", "csi_g", "full"]
TABLE_MINUTES = 2.0
"""What a training of experiment=table1_cpu takes."""
RAW_PIXELS = "raw_pixels"


def point(data: Path, runs: Path, method: str, name: str, minutes: float, table: RunResult) -> RunResult:
    """The result of one length; `table` is that of experiment=table1_cpu."""
    if minutes == TABLE_MINUTES:
        return table
    schedule = table.config["schedule"]
    batch = table.config["batch_size"]
    steps = round(schedule["total_images"] / batch * minutes / TABLE_MINUTES)
    settings = [
        "data=cifar10_jpeg",
        "data.calibration_fraction=0",
        "budget=table1_cpu",
        f"method={method}",
        f"normal_class={name}",
        f"schedule.total_images={steps * batch}",
    ]
    return train(data, (runs / f"{name}_{method}_{minutes:g}").resolve(), settings)


def draw(lines: list[dict[str, Any]], bought: dict[str, float], file: Path) -> None:
    """The curves of each class, and as levels what needs no training."""
    names = list(dict.fromkeys(line["class"] for line in lines))
    figure, panels = plt.subplots(
        1, len(names), figsize=(5.5 * len(names), 4.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, name in zip(panels[0], names, strict=True):
        for line in (line for line in lines if line["class"] == name):
            ours = line["method"] in ("csi", "csi_g", "full")
            axes.plot(
                line["minutes"],
                line["auroc"],
                marker="o",
                linewidth=2.2 if ours else 1.2,
                label=line["method"],
            )
        axes.axhline(line["raw_pixels"], color="grey", linestyle=":", label="raw pixels: no training")
        if name in bought:
            label = "pretrained pooled features: trained on others' pictures"
            axes.axhline(bought[name], color="black", linestyle="--", label=label)
        axes.set(
            xscale="log", xlabel="minutes of training on one core", title=f"CIFAR-10-JPEG, normal: {name}"
        )
        axes.set_xticks(line["minutes"], [f"{minutes:g}" for minutes in line["minutes"]], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("AUROC, %")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/minutes"))
    parser.add_argument("--table", type=Path, default=Path("results/table1_cpu"), help="of table1_cpu")
    parser.add_argument("--classes", nargs="+", default=["automobile", "horse"])
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.5, 2.0, 10.0])
    parser.add_argument("--bought", type=Path, nargs="*", default=[], help="result.json of pooled_neighbours")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for name in given.classes:
        for method in METHODS:
            table = RunResult.read(given.table / f"{name}_{method}_seed0.json")
            found = [
                point(given.data.resolve(), given.runs, method, name, minutes, table)
                for minutes in given.minutes
            ]
            lines.append(
                {
                    "class": name,
                    "method": method,
                    "minutes": given.minutes,
                    "iterations": [result.iterations for result in found],
                    "auroc": [round(100 * result.auroc[result.primary], 2) for result in found],
                    "raw_pixels": round(100 * table.auroc[RAW_PIXELS], 2),
                    "seconds": [result.seconds["train"] for result in found],
                    "machines": [result.machine for result in found],
                }
            )
            print(lines[-1], flush=True)
            bought = {
                result.normal_class: round(100 * result.auroc[result.primary], 2)
                for result in map(RunResult.read, given.bought)
            }
            write(given.json, {"runs": lines, "pooled_neighbours": bought})
    if given.picture:
        draw(lines, bought, given.picture)


if __name__ == "__main__":
    main()
