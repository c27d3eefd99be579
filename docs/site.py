"""For mkdocs: what lies at the top of the repository becomes pages, its links counted from `docs`."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files beside `docs`, and the pages that they become."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add these pages to those of `docs`."""
    for name, page in PAGES.items():
        text = (Path(config.docs_dir).parent / name).read_text()
        for other, its_page in PAGES.items():
            text = text.replace(f"]({other}", f"]({its_page}")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files
