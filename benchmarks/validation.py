"""How far what normal images tell of a detector follows its test AUROC, over the trials of searches.

    anomaly-gan search ... name=search_digits
    python benchmarks/validation.py runs/search_digits ... --json results/validation.json

Reads the results of `anomaly-gan search`, one folder a search. Test labels are looked at only here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from common import write
from scipy.stats import spearmanr


def of_search(folder: Path) -> dict[str, Any]:
    """Rank correlations, and what choosing by the validation got and missed, over one search's trials."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
    results = [result for result in results if result["validation"] is not None]
    test = [result["auroc"][result["primary"]] for result in results]
    kinds = sorted(results[0]["validation"]["by_kind"])
    values = {"mean": [result["validation"]["auroc"] for result in results]}
    values |= {kind: [result["validation"]["by_kind"][kind] for result in results] for kind in kinds}
    chosen = max(range(len(results)), key=lambda i: values["mean"][i])
    return {
        "data": f"{results[0]['dataset']}, normal: {results[0]['normal_class']}",
        "trials": len(results),
        "rank_correlation": {kind: round(float(spearmanr(of, test)[0]), 2) for kind, of in values.items()},
        "test_auroc_percent": {
            "of_the_chosen": round(100 * test[chosen], 1),
            "best": round(100 * max(test), 1),
            "mean": round(100 * sum(test) / len(test), 1),
            "worst": round(100 * min(test), 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("searches", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = [of_search(folder) for folder in arguments.searches]
    print(json.dumps(found, indent=2))
    write(arguments.json, {"searches": found})


if __name__ == "__main__":
    main()
