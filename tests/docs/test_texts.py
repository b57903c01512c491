"""What the documentation shows, names and links to is there: examples, files, headings, commands, keys, states."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from outboxd.cli import main
from outboxd.config.keys import KEYS, local, variable
from outboxd.config.layers import CONFIG_VARIABLE
from outboxd.lifecycle import TRANSITIONS
from tests.docs.toolchains import EXAMPLES
from tests.servers.cache import CHECKOUT

TEXTS: Final = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
HOW_IT_WORKS: Final = CHECKOUT / "docs" / "how-it-works.md"
SECTIONS: Final = {key[0] for key in KEYS}

SHOWN: Final = re.compile(r"^<!-- (docs/examples/\S+) -->\n+```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A code block and, in the comment before it, the file that it shows."""
CODE: Final = re.compile(r"^```\w*\n(.*?)^```$|(?:^ {4}[^\n]*\n)+", re.MULTILINE | re.DOTALL)
"""A fenced code block, or an indented one."""
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


each_text = pytest.mark.parametrize("text", TEXTS, ids=name_of)


def commands(text: Path) -> Iterator[list[str]]:
    """The words behind each `outboxd` in a text's code: in blocks, where a backslash continues a line, and in prose."""
    content = text.read_text()
    blocks = "".join(block[0] for block in CODE.finditer(content)).replace("\\\n", " ")
    for found in re.finditer(r"^(?:[^`\n]*[\s/;])?outboxd (\w[^`\n]*)$", blocks, re.MULTILINE):
        yield shlex.split(found[1], comments=True)
    for found in re.finditer(r"`outboxd (\w[^`]*)`", content):
        yield found[1].split()


def anchors(text: Path) -> set[str]:
    """How GitHub names the headings of a text."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text.read_text())}


@each_text
def test_code_blocks_are_the_examples(text: Path) -> None:
    """A code block that names a file shows that file, letter by letter."""
    for name, shown in SHOWN.findall(text.read_text()):
        assert shown == (CHECKOUT / name).read_text(), f"{name} has changed"


def test_every_example_is_shown() -> None:
    """Each language's example stands in a text, so that what is tried is what is read."""
    shown = {name for text in TEXTS for name, _ in SHOWN.findall(text.read_text())}
    writers = {path for path in EXAMPLES.glob("*/*") if path.stem in {"place_order", "PlaceOrder"}}
    assert shown == {name_of(path) for path in writers | set(EXAMPLES.glob("sql/*"))}


@each_text
def test_links_lead_somewhere(text: Path) -> None:
    """What a relative link names exists, and so does the heading behind its #."""
    for link in LINK.findall(text.read_text()):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (text.parent / path).resolve() if path else text
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@each_text
def test_commands_are_known(text: Path) -> None:
    """Every `outboxd ...` is a command, with options that it has."""
    for words in commands(text):
        assert words[0] in main.list_commands(click.Context(main)), f"there is no command {words[0]}"
        assert unknown_options(words) == [], f"of {words[0]}"


def unknown_options(words: list[str]) -> list[str]:
    """Those of the words that are options, and not of the command before them."""
    command: click.Command = main
    options: set[str] = {"--help", "--version"}
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-"):
            following = command.get_command(click.Context(command), word)
            assert following is not None, f"there is no command {word}"
            command = following
            options = {"--help", *(name for parameter in command.params for name in parameter.opts)}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]


@each_text
def test_keys_and_variables_are_known(text: Path) -> None:
    """Every key that is named as code, and every variable, is one of the configuration."""
    content = text.read_text()
    for section, name in re.findall(r"`([a-z_]+)\.([a-z_]+)(?: = [^`]*)?`", content):
        assert section not in SECTIONS or (section, name) in KEYS, f"{section}.{name} is no key"
    for assigned in re.findall(r"\bOUTBOXD_[A-Z][A-Z0-9_]+(?==)", content):
        assert assigned in VARIABLES, f"{assigned} is no variable"


VARIABLES: Final = {
    CONFIG_VARIABLE,
    *(name + ending for key in KEYS for name in [variable(local(key))] for ending in ("", "_FILE")),
}


@each_text
def test_make_targets_are_there(text: Path) -> None:
    """Every `make ...` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text.read_text(), re.MULTILINE))
    assert named <= targets


def test_the_diagram_is_the_life_cycle() -> None:
    """The arrows of the diagram, and the rows of the table below it, are the transitions of the code."""
    content = HOW_IT_WORKS.read_text()
    code = {
        (before.name.lower() if before is not None else "unknown", happening.value, after.name.lower())
        for (before, happening), possible in TRANSITIONS.items()
        for after in possible
    }
    arrows = re.findall(r"^ +(\w+) --> (\w+): (.+)$", content, re.MULTILINE)
    drawn = {(before, happening, after) for before, after, labels in arrows for happening in labels.split(", ")}
    assert drawn == code
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", content, re.MULTILINE)
    told = {(before, what, after) for before, what, states in rows for after in re.findall(r"`(\w+)`", states)}
    assert told == code
