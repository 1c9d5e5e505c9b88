"""Give the documentation's site the pages from outside of docs/: changelog, contributing, the chart's reference.

Links are written as they are right in the repository, where people read these files too; here they are led to the
site's pages, and one that shows a file's name shows the page's title. A link to what is neither stays as it is, and
MkDocs complains of it.
"""

import logging
import posixpath
import re
from pathlib import Path

import docs_markup
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# A name below MkDocs' own, so that a strict build ends with what is logged here.
LOG = logging.getLogger("mkdocs.hooks.credrotator")
ROOT = Path(__file__).parent.parent
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "charts/credrotator/README.md": "chart.md",
}
_LINK = re.compile(r"\[(?P<shown>[^\]]+)\]\((?P<target>[^)#:\s]+)")
_FETCHED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^"'> ]+""")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside that has none in docs/."""
    for source, page in OUTSIDE.items():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to files of the repository to the site's pages."""
    here = page.file.src_uri
    outside = {inside: source for source, inside in OUTSIDE.items() if source != "README.md"}
    source = outside.get(here, f"docs/{here}")

    def led(link: re.Match[str]) -> str:
        shown, target = link["shown"], link["target"]
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        inside = OUTSIDE.get(meant) or (meant.removeprefix("docs/") if meant.startswith("docs/") else None)
        if inside is None:
            return link[0]
        file = files.get_file_from_path(inside)
        if shown.endswith(".md") and file is not None and (title := _TITLE.search(file.content_string)):
            shown = title[1]
        return f"[{shown}]({posixpath.relpath(inside, posixpath.dirname(here))}"

    return docs_markup.admonitions(_LINK.sub(led, markdown))


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let the copy button take commands without their outputs, and tables and pictures have the room that they need."""
    if not any(section.children for section in page.toc):
        # The space for a list of sections is kept free, and there are none.
        page.meta["hide"] = [*page.meta.get("hide", ()), "toc"]
    here = posixpath.dirname(page.file.src_uri)

    def exists(picture: str) -> bool:
        return files.get_file_from_path(posixpath.normpath(posixpath.join(here, picture))) is not None

    return docs_markup.responsive(docs_markup.breakable(docs_markup.copied(html)), exists)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Complain of what a reader's browser would fetch from elsewhere: who reads this is nobody else's business."""
    for fetched in _FETCHED.findall(output):
        LOG.warning("%s has its reader fetch something from elsewhere: %s", page.file.src_uri, fetched)
    return output
