"""Draw docs/plots/demo.svg: what `tailor demo` prints, as a picture of a terminal.

python benchmarks/demo_picture.py
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs" / "plots" / "demo.svg"
COLUMNS = 100


def main() -> None:
    """Run the demo and write the picture."""
    code = "from tailor.cli.main import run; run()"
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm"}
    with tempfile.TemporaryDirectory() as folder:
        output = subprocess.run(
            [sys.executable, "-c", code, "demo"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(f"$ tailor demo\n...\n{middle_of(output)}"))
        svg = console.export_svg(title="tailor demo")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from elsewhere
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg.replace("Fira Code, monospace", "monospace"), encoding="utf-8")


def middle_of(output: str) -> str:
    """Return the part from the table of methods to the end of the first user's list."""
    lines = output.splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    start = next(i for i, line in enumerate(plain) if line.startswith("5."))
    heads = [i for i, line in enumerate(plain) if line.strip().startswith("item  ")]
    return "\n".join(lines[start : heads[1] - 2])


if __name__ == "__main__":
    main()
