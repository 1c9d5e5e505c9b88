"""Write the package's version into what cannot read it from there: the chart, and the commands of the pages.

version.py     run by `make version`, after the version in credrotator/__init__.py was changed
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "credrotator" / "Chart.yaml"
NUMBER = r"\d+\.\d+\.\d+"
# A wheel's name, an image's tag, a build argument, and what --version prints.
_IN_PAGES = re.compile(rf"(?P<before>credrotator[:-]|VERSION=|credrotator, version ){NUMBER}")
_IN_CHART = re.compile(rf'^(?P<before>version: |appVersion: "){NUMBER}', re.MULTILINE)


def main() -> int:
    """Replace the version wherever it stands."""
    (version,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "credrotator" / "__init__.py").read_text(), re.MULTILINE)
    places = {CHART: _IN_CHART, ROOT / "README.md": _IN_PAGES}
    places |= dict.fromkeys((ROOT / "docs").rglob("*.md"), _IN_PAGES)
    for file, pattern in places.items():
        text = file.read_text(encoding="utf-8")
        new = pattern.sub(rf"\g<before>{version}", text)
        if new != text:
            file.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{file.relative_to(ROOT)}: {version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
