"""Give the documentation's site the pages that lie outside of docs/: the changelog and the chart's reference.

Links are written as they are right in the repository, where people read these files too; here they are led to the
site's pages. A link to what is neither stays as it is, and MkDocs complains of it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = {"CHANGELOG.md": "changelog.md", "charts/credrotator/README.md": "chart.md", "README.md": "index.md"}
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside that has none in docs/."""
    for source, page in OUTSIDE.items():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to files of the repository to the site's pages."""
    here = page.file.src_uri
    source = next((outside for outside, inside in OUTSIDE.items() if inside == here), f"docs/{here}")
    if here == "index.md":
        source = "docs/index.md"
    return _LINK.sub(lambda link: _led(link[0], source, here), markdown)


def _led(target: str, source: str, here: str) -> str:
    """Return a link's target as it is right on the site; ``source`` is the page's file in the repository."""
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    inside = OUTSIDE.get(meant) or (meant.removeprefix("docs/") if meant.startswith("docs/") else None)
    return posixpath.relpath(inside, posixpath.dirname(here)) if inside else target
