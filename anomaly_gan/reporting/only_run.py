"""The head of a page that has one run: its threshold, in the words of those who look at pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anomaly_gan.reporting import wording
from anomaly_gan.reporting.contents import Contents


@dataclass(frozen=True)
class OnlyRun:
    """What the head says."""

    headline: str
    sentences: list[str]
    """What the threshold promises, and what it did with the test images."""
    about: str
    """What was trained on what, when."""
    tested: bool
    """Whether there is an AUROC to speak of."""


def only_run(contents: Contents) -> OnlyRun:
    """Of the first run, the only one."""
    result = contents.collection.runs[0].result
    learned = result.counts.get("train")
    about = f"{result.method} on {result.dataset}, {result.normal_class}"
    about += f", learned from {learned:,} pictures" if learned else ""
    headline, sentences = "Scores without a threshold", [wording.NO_THRESHOLD]
    if result.calibration is not None:
        headline = f"A picture looks defective where its score is above {result.calibration['threshold']:.4g}"
        sentences = _of_threshold(result.calibration)
    made = contents.about.partition("; ")[2]
    return OnlyRun(headline, sentences, f"{about}; {made}.", result.auroc_absent_because is None)


def _of_threshold(calibration: Mapping[str, Any]) -> list[str]:
    """What is promised, and what was found of the test images, where there are any."""
    sentences = [wording.promise(calibration["false_positive_rate"], calibration["held_out"])]
    found = [
        f"{wording.percent(entry['rate'])} of {entry['tested']:,} {kind} test pictures"
        for kind, key in (("good", "false_alarms"), ("defective", "found"))
        if (entry := calibration.get(key))
    ]
    if found:
        sentences.append(f"Of the test part it calls defective: {'; '.join(found)}.")
    return sentences
