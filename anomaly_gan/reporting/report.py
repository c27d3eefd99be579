"""A report on many runs: a page, and its tables as Markdown, LaTeX and CSV."""

from pathlib import Path

from anomaly_gan.reporting import plain
from anomaly_gan.reporting.contents import Contents
from anomaly_gan.reporting.web import page
from anomaly_gan.results import write_atomically, write_csv


def write(contents: Contents) -> list[Path]:
    """Write all four into the report's folder; their paths, the page's first."""
    contents.place.mkdir(parents=True, exist_ok=True)
    texts = {"html": page(contents), "md": plain.markdown(contents), "tex": plain.latex(contents)}
    paths = [contents.place / f"report.{ending}" for ending in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomically(path, text)
    paths.append(contents.place / "report.csv")
    write_csv(paths[-1], plain.long_form(contents))
    return paths
