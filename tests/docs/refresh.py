"""Write what commands print now into the pages: `python -m tests.docs.refresh`, after an output was changed on purpose.

Only outputs that do not fit any more are replaced; a page's ``...`` stays where the lines around it still fit, and goes
with the rest where not. Look at the difference before you keep it.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

from credrotator.sandbox import Sandbox
from tests.docs.pages import RUN, Command, blocks, run_pages
from tests.docs.session import Session, fits, reader


def refreshed(session: Session, text: str) -> str:
    """Return a page's text with the outputs of its commands as they are."""
    new, last, said = "", 0, ""
    for block in blocks(text):
        if block.is_output and not fits(tuple(block.text.splitlines()), said):
            new, last = new + text[last : block.start] + said.strip("\n") + "\n", block.end
        if block.title is not None and block.reason is None:
            session.write(block.title, block.text)
        if block.kind not in RUN or block.reason is not None:
            continue
        lines = ""
        for command in block.commands:
            said = session.outcome(command.text)[1]
            lines += shown(command, said)
        if block.kind == "console":
            new, last = new + text[last : block.start] + lines, block.end
    return new + text[last:]


def shown(command: Command, said: str) -> str:
    """Return a command as a page shows it, with its old output if that still fits."""
    keep = not command.shown or fits(command.shown, said)
    output = "\n".join(command.shown) if keep else said.strip("\n")
    return f"$ {command.text}\n" + (f"{output}\n" if output else "")


def main() -> None:
    """Refresh the pages that are named, or all."""
    chosen = {Path(name).resolve() for name in sys.argv[1:]} or set(run_pages())
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="credrotator-docs-")))
        stand_in = stack.enter_context(Sandbox(place / "stand-in"))
        for number, page in enumerate(sorted(chosen)):
            text = page.read_text(encoding="utf-8")
            directory = place / str(number)
            directory.mkdir()
            with reader(page, directory, stand_in) as session:
                new = refreshed(session, text)
            if new != text:
                page.write_text(new, encoding="utf-8")
                print(f"refreshed {page}")  # noqa: T201


if __name__ == "__main__":
    main()
