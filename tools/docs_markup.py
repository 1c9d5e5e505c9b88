"""What the site has and the repository's pages cannot have: copy buttons for commands only, notes, narrow pictures.

Owns pure functions from text to text, so that tests need no MkDocs. Specification: GitHub's alerts ("> [!NOTE]"),
Material for MkDocs (``data-copy``: what the copy button takes in place of the block's text), HTML's picture element.
"""

import html
import re
from collections.abc import Callable

_ALERT = re.compile(r"^> \[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]\n((?:>.*\n?)+)", re.MULTILINE)
_KINDS = {"NOTE": "note", "TIP": "tip", "IMPORTANT": "info", "WARNING": "warning", "CAUTION": "danger"}
_HIGHLIGHT = re.compile(r'<div class="highlight">(<pre>.*?</pre>)</div>', re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_PROMPT = "$ "
_CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
_CODE = re.compile(r"<code>(?P<text>[^<]+)</code>")
_NAME = re.compile(r"[A-Za-z0-9]+(?:_[A-Za-z0-9]+){2,}")
_LONG_NAME, _LONG_TEXT = 25, 60
"""Letters of what leaves no room for the cells beside it."""
_IMAGE = re.compile(r'<img [^>]*?src="(?P<path>[^":]+)\.svg"[^>]*>')
PHONE = "(max-width: 44.9844em)"
"""The width below which Material for MkDocs shows a phone's page."""


def admonitions(markdown: str) -> str:
    """Return a page whose alerts, in GitHub's notation, are admonitions."""

    def admonition(alert: re.Match[str]) -> str:
        lines = (line.removeprefix(">").removeprefix(" ") for line in alert[2].splitlines())
        body = "\n".join(f"    {line}".rstrip() for line in lines)
        return f"!!! {_KINDS[alert[1]]}\n\n{body}\n"

    return _ALERT.sub(admonition, markdown)


def commands(session: str) -> str:
    """Return what is typed in a console session: the lines behind a prompt, with those that they continue in."""
    typed: list[str] = []
    for line in session.splitlines():
        if line.startswith(_PROMPT):
            typed.append(line.removeprefix(_PROMPT))
        elif typed and typed[-1].endswith("\\"):
            typed[-1] += f"\n{line}"
    return "\n".join(typed)


def copied(page: str) -> str:
    """Return a page, in HTML, whose console sessions have their commands copied, without prompts and outputs."""

    def block(found: re.Match[str]) -> str:
        text = html.unescape(_TAG.sub("", found[1]))
        if not text.startswith(_PROMPT):
            return found[0]
        return f'<div class="highlight" data-copy="{html.escape(commands(text))}">{found[1]}</div>'

    return _HIGHLIGHT.sub(block, page)


def breakable(page: str) -> str:
    """Return a page, in HTML, whose tables may break long values, and long names of metrics and tests between words.

    Otherwise such a column is as wide as its longest name, and what is said about it stands in a column of three words.
    """

    def shown(code: re.Match[str]) -> str:
        text = code["text"]
        if _NAME.fullmatch(text) and len(text) >= _LONG_NAME:
            return f'<code class="long">{text.replace("_", "_<wbr>")}</code>'
        return f'<code class="long">{text}</code>' if len(text) >= _LONG_TEXT else code[0]

    return _CELL.sub(lambda cell: _CODE.sub(shown, cell[0]), page)


def responsive(page: str, exists: Callable[[str], bool]) -> str:
    """Return a page, in HTML, whose pictures give way to their narrow form on a phone.

    Args:
        page: The page.
        exists: Tells whether there is a picture of that address, relative to the page.
    """

    def picture(image: re.Match[str]) -> str:
        narrow = f"{image['path']}-narrow.svg"
        if not exists(narrow):
            return image[0]
        return f'<picture><source media="{PHONE}" srcset="{narrow}">{image[0]}</picture>'

    return _IMAGE.sub(picture, page)
