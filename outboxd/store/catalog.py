"""Tables as a server has them and as a model wants them, in one form that can be compared.

The two servers, and their versions, describe one and the same table differently (`int(11)` and `int`, `longtext` and
`json`); a shape is what remains. Character sets and collations are left out: those of the user are as good as ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

_DIALECT = mysql.dialect()
_ON_UPDATE = re.compile(r"\bon update \S+", re.IGNORECASE)


class ColumnShape(NamedTuple):
    """A column, normalised."""

    type: str
    nullable: bool = False
    default: str | None = None
    on_update: str | None = None
    auto_increment: bool = False
    generated: str | None = None
    invisible: bool = False

    @property
    def may_be_omitted(self) -> bool:
        """Whether an INSERT that does not know the column succeeds."""
        return self.nullable or self.default is not None or self.auto_increment or self.generated is not None

    def __str__(self) -> str:
        parts = [self.type]
        if self.generated is not None:
            parts.append(f"as ({self.generated}) virtual")
        else:
            parts.append("null" if self.nullable else "not null")
        if self.default is not None:
            parts.append(f"default {self.default}")
        if self.on_update is not None:
            parts.append(f"on update {self.on_update}")
        parts += ["auto_increment"] * self.auto_increment + ["invisible"] * self.invisible
        return " ".join(parts)


class IndexShape(NamedTuple):
    """An index. The primary key's name is PRIMARY."""

    unique: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table; columns in their order."""

    columns: Mapping[str, ColumnShape]
    indexes: Mapping[str, IndexShape]
    kind: str = "InnoDB table"
    comment: str = field(default="", compare=False)


# --- as a server has it -----------------------------------------------------------------------------------------

_TABLE = """SELECT table_type, engine, table_comment FROM information_schema.tables
             WHERE table_schema = DATABASE() AND table_name = :name"""
_COLUMNS = """SELECT column_name, column_type, is_nullable, column_default, extra, generation_expression
                FROM information_schema.columns
               WHERE table_schema = DATABASE() AND table_name = :name ORDER BY ordinal_position"""
_CHARACTER_SETS = """SELECT column_name, character_set_name FROM information_schema.columns
                      WHERE table_schema = DATABASE() AND table_name = :name"""
_INDEXES = """SELECT index_name, non_unique, column_name, sub_part FROM information_schema.statistics
               WHERE table_schema = DATABASE() AND table_name = :name ORDER BY index_name, seq_in_index"""


def read_table(connection: sa.Connection, name: str) -> TableShape | None:
    """The table of that name in the connection's database; None when there is none."""
    head = connection.execute(sa.text(_TABLE), {"name": name}).first()
    if head is None:
        return None
    table_type, engine, comment = head
    kind = f"{engine} table" if table_type == "BASE TABLE" else str(table_type).lower()
    columns = connection.execute(sa.text(_COLUMNS), {"name": name}).all()
    return TableShape({row[0]: _read_column(row) for row in columns}, _read_indexes(connection, name), kind, comment)


def character_sets(connection: sa.Connection, name: str) -> dict[str, str | None]:
    """The character set of each column of a table that has one; None for others, such as those of MySQL's type JSON."""
    return {row[0]: row[1] for row in connection.execute(sa.text(_CHARACTER_SETS), {"name": name})}


def _read_column(row: Any) -> ColumnShape:
    _, column_type, nullable, default, extra, expression = row
    extra = extra.lower()
    on_update = _ON_UPDATE.search(extra)
    return ColumnShape(
        type=_plain_type(column_type),
        nullable=nullable == "YES",
        default=_plain_default(default),
        on_update=on_update.group().removeprefix("on update ") if on_update else None,
        auto_increment="auto_increment" in extra,
        generated=_plain_expression(expression) if expression else None,
        invisible="invisible" in extra,
    )


def _read_indexes(connection: sa.Connection, name: str) -> dict[str, IndexShape]:
    found: dict[str, IndexShape] = {}
    for index, non_unique, column, length in connection.execute(sa.text(_INDEXES), {"name": name}):
        part = f"{column}({length})" if length else str(column)
        earlier = found[index].columns if index in found else ()
        found[index] = IndexShape(not int(non_unique), (*earlier, part))
    return found


def _plain_type(column_type: str) -> str:
    plain = re.sub(r"int(eger)?(\(\d+\))?", "int", column_type.lower())
    # MariaDB's JSON is an alias for a longtext.
    return "json" if plain == "longtext" else plain


def _plain_default(default: str | None) -> str | None:
    if default is None or default == "NULL":
        return None
    plain = default.removeprefix("'").removesuffix("'") if default.startswith("'") else default
    return plain.lower() if plain.lower().startswith("current_timestamp") else plain


def _plain_expression(expression: str) -> str:
    plain = expression.replace("`", "").lower()
    # MySQL puts a pair of parentheses around the whole.
    return plain[1:-1] if plain.startswith("(") and plain.endswith(")") else plain


# --- as a model wants it ----------------------------------------------------------------------------------------


def shape_of(table: sa.Table) -> TableShape:
    """The shape that a server would show for this table."""
    indexes = {"PRIMARY": IndexShape(True, tuple(column.name for column in table.primary_key.columns))}
    indexes |= {column.name: IndexShape(True, (column.name,)) for column in table.columns if column.unique}
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.name is not None:
            indexes[str(index.name)] = IndexShape(bool(index.unique), tuple(column.name for column in index.columns))
    return TableShape({column.name: column_shape(column) for column in table.columns}, indexes)


def column_shape(column: sa.Column[Any]) -> ColumnShape:
    """The shape that a server would show for this column."""
    default, _, on_update = _server_default(column).partition(" on update ")
    return ColumnShape(
        type=_plain_type(column.type.compile(dialect=_DIALECT)),
        nullable=bool(column.nullable),
        default=default or None,
        on_update=on_update or None,
        auto_increment=column.table is not None and column is column.table.autoincrement_column,
        generated=_plain_expression(str(column.computed.sqltext)) if column.computed is not None else None,
        invisible=bool(column.info.get("invisible")),
    )


def _server_default(column: sa.Column[Any]) -> str:
    default = column.server_default
    return str(default.arg).lower() if isinstance(default, sa.DefaultClause) else ""


# --- the difference ---------------------------------------------------------------------------------------------


def differences(name: str, actual: TableShape, wanted: TableShape) -> list[str]:
    """In what an existing table cannot serve as the wanted one, a line each.

    More is tolerated: further indexes, and further columns that an INSERT may leave out. Of the wanted indexes only
    the unique ones are asked for, as only they change what can be stored.
    """
    if actual.kind != wanted.kind:
        return [f"{name} is a {actual.kind}, it must be an {wanted.kind}"]
    lines = column_differences(name, actual, wanted.columns, missing_is_different=True)
    lines += [
        f"{name}.{column} ({shape}) is not known to outboxd and has no default: make it nullable"
        for column, shape in actual.columns.items()
        if column not in wanted.columns and not shape.may_be_omitted
    ]
    unique = {index.columns for index in actual.indexes.values() if index.unique}
    lines += [
        f"{name} has no unique index on ({', '.join(index.columns)})"
        for index in wanted.indexes.values()
        if index.unique and index.columns not in unique
    ]
    return lines


def column_differences(
    name: str, actual: TableShape, wanted: Mapping[str, ColumnShape], *, missing_is_different: bool
) -> list[str]:
    """Where columns of the table are not as wanted, a line each."""
    lines = []
    for column, shape in wanted.items():
        found = actual.columns.get(column)
        if found is None and missing_is_different:
            lines.append(f"{name}.{column} is missing, it must be {shape}")
        elif found is not None and found != shape:
            lines.append(f"{name}.{column} is {found}, it must be {shape}")
    return lines
