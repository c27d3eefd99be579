"""What pages point at is there, as they are read in the repository; `make docs` looks after the site."""

import re
from pathlib import Path

import pytest
from documentation import BLOCK, PAGES, ROOT, name

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

HOSTS = {
    "github.com",
    "optuna.org",
    "127.0.0.1:7860",
    "127.0.0.1:8000",
    "proceedings.mlr.press",
    "www.apache.org",
}
"""Of the addresses in pages and papers; none is made up."""


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_no_address_names_a_host_that_was_made_up() -> None:
    papers = [
        ROOT / "LICENSE",
        ROOT / "CITATION.cff",
        ROOT / "CHANGELOG.md",
        ROOT / "pyproject.toml",
        ROOT / "mkdocs.yml",
    ]
    found = {
        host
        for file in [*PAGES, *papers]
        for host in re.findall(r"https?://([^/\s)`'\"]+)", file.read_text())
    }
    assert found <= HOSTS


def test_the_files_that_the_architecture_names_are_there() -> None:
    (house, *_) = re.findall(
        r"^```\n(.*?)^```$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE | re.DOTALL
    )
    named = set(re.findall(r"^ +((?:\w+\.(?:py|yaml) ?)+)", house, re.MULTILINE))
    files = {file.name for folder in ("anomaly_gan", "conf") for file in (ROOT / folder).rglob("*.*")}
    names = {file for line in named for file in line.split()}
    assert len(names) >= 40
    assert names <= files
