"""The pages of the documentation, and the blocks and commands in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CHANGELOG.md"})
"""The changelog tells of commands as they were."""

SHOW_FILES = {"docs/data.md", "docs/architecture.md"}
"""Pages whose blocks show files and what is printed; `test_data_page_of_looks.py` has those of the first."""

BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

SENTENCE = re.compile(r"`((?:anomaly-gan|pip install|make|python) [^`]+)`")
"""A command in a sentence, as code; it may go over the end of a line."""

UNFINISHED = {"...", "|", "COMMAND"}
"""Words of what is no whole command."""


class Command(NamedTuple):
    """What somebody is told to type."""

    words: list[str]
    comment: str
    in_block: bool

    def __str__(self) -> str:
        return shlex.join(self.words)


def name(page: Path) -> str:
    """Of a page, or of another file, from the top of the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language; "" is of those without: commands, files, what is printed."""
    return [block["text"] for block in BLOCK.finditer(page.read_text()) if block["language"] == language]


def commands(page: Path) -> list[Command]:
    """The commands of a page: each line of its blocks without a language, and those in its sentences."""
    found = []
    for block in blocks(page, "") if name(page) not in SHOW_FILES else ():
        for line in block.replace("\\\n", " ").splitlines():
            words, comment = shlex.split(line, comments=True), line.partition("#")[2]
            found += [Command(words, comment, True)] if words else []
    for said in SENTENCE.findall(BLOCK.sub("", page.read_text())):
        found.append(Command(shlex.split(said), "", False))
    return [command for command in found if not UNFINISHED & set(command.words)]
