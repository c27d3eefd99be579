"""A report on runs: a page, and its tables as Markdown, LaTeX and CSV."""

from pathlib import Path

from anomaly_gan.reporting import plain
from anomaly_gan.reporting.collect import collect
from anomaly_gan.reporting.contents import Contents, contents
from anomaly_gan.reporting.web import page
from anomaly_gan.results import PAGE_FILE, write_atomically, write_csv


def write_page(folder: Path) -> None:
    """Write the page of the one run whose result is in `folder`, beside it."""
    write_atomically(folder / PAGE_FILE, page(contents(collect([folder]), None, folder)))


def write(contents: Contents) -> list[Path]:
    """Write all four into the report's folder; their paths, the page's first."""
    contents.place.mkdir(parents=True, exist_ok=True)
    texts = {
        PAGE_FILE: page(contents),
        "report.md": plain.markdown(contents),
        "report.tex": plain.latex(contents),
    }
    paths = [contents.place / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomically(path, text)
    paths.append(contents.place / "report.csv")
    write_csv(paths[-1], plain.long_form(contents))
    return paths
