"""What thresholds cost and find: a table, for files and terminals, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomaly_gan.metrics.rates import CONFIDENCE, AtRate, Share
from anomaly_gan.results import write_csv

HEADER = f"{'promised':>9}  {'score above':>11}  {'false alarms':>29}  {'defects found':>29}"


def lines(entries: Sequence[AtRate]) -> list[str]:
    """The table for a terminal, its header first; intervals are exact, 95 % each."""
    lines = [HEADER]
    for entry in entries:
        shares = f"{_told(entry.false_alarms):>29}  {_told(entry.found):>29}"
        lines.append(f"{entry.rate:>9.3%}  {entry.threshold:>11.4g}  {shares}")
    return lines


def _told(share: Share | None) -> str:
    if share is None:
        return "-"
    return f"{share.above}/{share.tested} ({share.low:.1%} to {share.high:.1%})"


def write(path: Path, entries: Sequence[AtRate]) -> None:
    """Write the table as CSV, whole or not at all; shares in [0, 1], empty where nothing was tested."""
    columns: dict[str, list[Any]] = {
        "promised_rate": [entry.rate for entry in entries],
        "threshold": [entry.threshold for entry in entries],
    }
    of_kind: Mapping[str, list[Share | None]] = {
        "false_alarms": [entry.false_alarms for entry in entries],
        "found": [entry.found for entry in entries],
    }
    for kind, shares in of_kind.items():
        columns[kind] = [share and share.above for share in shares]
        columns[f"{kind}_of"] = [share and share.tested for share in shares]
        columns[f"{kind}_share"] = [share and share.value for share in shares]
        columns[f"{kind}_low"] = [share and share.low for share in shares]
        columns[f"{kind}_high"] = [share and share.high for share in shares]
    write_csv(path, columns)


def draw(path: Path, entries: Sequence[AtRate], title: str) -> None:
    """Draw what is found and what is called by mistake over the promised rate, with their intervals."""
    from anomaly_gan.reporting import figures  # a second for matplotlib

    figure, axes = figures.plt.subplots(figsize=(6, 4.5), layout="constrained")
    rates = [entry.rate for entry in entries]
    kinds: tuple[tuple[str, str, list[Share | None]], ...] = (
        ("defects found", figures.ANOMALOUS, [entry.found for entry in entries]),
        ("false alarms", figures.NORMAL, [entry.false_alarms for entry in entries]),
    )
    for name, color, shares in kinds:
        there = [share for share in shares if share is not None]
        if not there:
            continue
        low, high = [share.low for share in there], [share.high for share in there]
        values = [share.value for share in there]
        axes.fill_between(rates, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(rates, values, "o-", color=color, label=f"{name}, of {there[0].tested}")
    axes.plot(rates, rates, "--", color="0.5", linewidth=1, label="promised for false alarms")
    axes.set(
        xscale="log",
        ylim=(-0.02, 1.02),
        xlabel="false positive rate that is promised",
        ylabel=f"share called anomalous ({CONFIDENCE * 100:.0f} % intervals)",
        title=title,
    )
    ticker = figures.matplotlib.ticker
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.legend(frameon=False)
    figures.save(figure, path)
