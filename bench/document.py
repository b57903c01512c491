"""`python -m bench.document RESULT.json`: writes the tables and drawings of a result into docs/benchmarks.md."""

import argparse
import re
import shutil
from pathlib import Path
from typing import Final

from bench.result import Result
from bench.tables import sheets

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"
FOLDER: Final = DOCUMENT.parent / "benchmarks"
KEPT: Final = FOLDER / "result.json"
MISSING: Final = "Not measured in this run.\n"
PLACE: Final = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_in(text: str, parts: dict[str, str]) -> str:
    """The text with each place between `<!-- figures: NAME -->` and `<!-- end -->` filled with its part.

    A place whose part is not there says so. Raises ValueError for a part without a place.
    """
    places = {found[2] for found in PLACE.finditer(text)}
    if homeless := parts.keys() - places:
        raise ValueError(f"the text has no place for {', '.join(sorted(homeless))}")
    return PLACE.sub(lambda found: f"{found[1]}\n{parts.get(found[2], MISSING)}\n{found[3]}", text)


def parts_of(result: Result) -> dict[str, str]:
    """What goes into the places: the tables, each with its drawing if this result has one, and the machine."""
    parts = {name: sheet.markdown() for name, sheet in sheets(result)}
    for name in parts:
        # A drawing of another run may lie there still.
        made = any(result.get(name, database) for database in result.databases)
        if made and (FOLDER / f"{name}.svg").exists():
            parts[name] += f"\n![{name}]({FOLDER.name}/{name}.svg)\n"
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    settings = f" Settings: {', '.join(f'`{setting}`' for setting in result.settings)}." if result.settings else ""
    parts["machine"] = (
        f"Measured at {result.at}, {result.rounds} rounds, at scale {result.scale:g}, "
        f"with {result.sent_rows:,} sent rows in the full table.{settings}\n\n{machine}\n"
    )
    return parts


def main() -> None:
    """Draws, and rewrites the document."""
    from bench.drawing import draw  # noqa: PLC0415 - needs matplotlib, which the tests of the text do not

    parser = argparse.ArgumentParser(prog="python -m bench.document", description=__doc__)
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    arguments = parser.parse_args()
    result = Result.load(arguments.result)
    drawn = list(draw(result, FOLDER))
    if arguments.result.resolve() != KEPT.resolve():
        shutil.copyfile(arguments.result, KEPT)
    DOCUMENT.write_text(fill_in(DOCUMENT.read_text(), parts_of(result)))
    print(f"written: {DOCUMENT}, {KEPT}, {', '.join(map(str, drawn))}")


if __name__ == "__main__":
    main()
