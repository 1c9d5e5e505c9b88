"""Draw docs/pictures/terminal.svg: what a terminal shows of the first commands, run for it against the sandbox.

Nothing in the picture is written by hand, so it cannot show what the program does not say. A second one is for phones.
Run it after the output of these commands changed: `make picture`.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
ROTATE = "credrotator rotate -f policies/ --out credentials"
POLICIES = ("aws-bedrock.yaml", "azure-openai.yaml", "secrets.yaml")


@dataclass(frozen=True)
class Picture:
    """A session to draw: its file, how wide the terminal is, in columns and pixels, and what is typed."""

    name: str
    columns: int
    width_px: int
    commands: tuple[str, ...]


WIDE = Picture("terminal", 98, 1212, (ROTATE, "ls credentials/default", ROTATE, "credrotator explain IssuerTLS"))
NARROW = Picture(
    "terminal-narrow",
    54,
    400,
    (f"{ROTATE} |\n  tail -n 1", "ls credentials/default", f"{ROTATE} |\n  tail -n 1", "credrotator explain IssuerTLS"),
)
DESCRIPTION = "Three policies are rotated, then kept as they are fresh, and a reason is explained."
DARK = TerminalTheme(
    (22, 27, 34),
    (214, 220, 228),
    [
        (72, 79, 88),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (214, 220, 228),
    ],
)
LIGHT = TerminalTheme(
    (246, 248, 250),
    (31, 35, 40),
    [
        (110, 119, 129),
        (179, 29, 40),
        (17, 99, 41),
        (125, 78, 0),
        (5, 80, 174),
        (98, 57, 150),
        (27, 124, 131),
        (36, 41, 47),
    ],
)
# Rich's own frame fetches a font from elsewhere; readers of the documents fetch nothing. Sizes in pixels are set below.
FRAME = """\
<svg class="terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>credrotator in a terminal</title>
<desc>DESCRIPTION</desc>
<style>
.{unique_id}-title {{ font-family: sans-serif; }}
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
/* styles */
{styles}
/* end */
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main() -> None:
    """Run each session in a sandbox of its own, and draw what it prints."""
    for picture in (WIDE, NARROW):
        (PICTURES / f"{picture.name}.svg").write_text(drawn(picture, outputs(picture)), encoding="utf-8")


def outputs(picture: Picture) -> list[str]:
    """Return what each command prints, in order, with its colours."""
    with tempfile.TemporaryDirectory(prefix="credrotator-picture-") as temporary:
        place = Path(temporary)
        (place / "policies").mkdir()
        for name in POLICIES:
            (place / "policies" / name).write_bytes((ROOT / "examples" / name).read_bytes())
        script = place / "session.sh"
        # A mark before each output: the sandbox runs one program, and every command is to see the same one.
        script.write_text("".join(f"printf '\\036'; {command} 2>&1\n" for command in picture.commands), "utf-8")
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": temporary}
        environment |= {"FORCE_COLOR": "1", "COLUMNS": str(picture.columns), "LANG": "C.UTF-8"}
        asked = ["credrotator", "sandbox", "--", "sh", str(script)]
        done = subprocess.run(asked, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return done.stdout.split("\x1e")[1:]


def drawn(picture: Picture, printed: list[str]) -> str:
    """Return the picture of a session, in the colours of its reader's page."""
    light, dark = (_drawn(picture, printed, theme) for theme in (LIGHT, DARK))
    styles = re.compile(r"/\* styles \*/\n(.*?)\n/\* end \*/", re.DOTALL)
    frame = re.compile(r'<rect fill="[^"]+" stroke="[^"]+"')
    (day,), (night,) = (styles.findall(svg) for svg in (light, dark))
    grounds = [(theme.background_color.hex, line) for theme, line in ((LIGHT, "#d0d7de"), (DARK, "#30363d"))]
    (day_rule, night_rule) = (f".frame {{ fill: {ground}; stroke: {line} }}" for ground, line in grounds)
    both = f"{day}\n{day_rule}\n@media (prefers-color-scheme: dark) {{\n{night}\n{night_rule}\n}}"
    return frame.sub('<rect class="frame"', styles.sub(lambda _: both, light))


def _drawn(picture: Picture, printed: list[str], theme: TerminalTheme) -> str:
    console = Console(
        record=True, width=picture.columns, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for number, (command, output) in enumerate(zip(picture.commands, printed, strict=True)):
        console.print(Text.assemble(("\n" if number else "") + "$ ", (command.rstrip(), "bold")))
        console.print(Text.from_ansi(output.rstrip("\n")))
    console.print()  # The frame cuts the last line off.
    svg = console.export_svg(
        title="credrotator",
        theme=theme,
        code_format=FRAME.replace("DESCRIPTION", DESCRIPTION),
        unique_id="terminal",
    )
    return _scaled(svg, picture.width_px)


def _scaled(svg: str, width_px: int) -> str:
    """Set a picture's own width, so that its sizes are pixels on a screen of that width."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found  # noqa: S101 - the frame has it
    width, height = float(found[1]), float(found[2])
    factor = width_px / width
    head, body = svg.split("</defs>")
    body = body.replace("</svg>", "</g></svg>")
    head = head.replace(found[0], f'viewBox="0 0 {width_px} {round(height * factor)}"')
    return f'{head}</defs><g transform="scale({factor:.4f})">{body}'


if __name__ == "__main__":
    main()
