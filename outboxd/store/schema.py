"""The newest schema as SQLAlchemy tables: what the revisions in `migrations/` add up to."""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from outboxd.model import TableNames

NOW = "CURRENT_TIMESTAMP(6)"
TOUCHED = f"{NOW} ON UPDATE {NOW}"
LANE_EXPRESSION = "crc32(aggregate_id) & 63"
INVISIBLE = {"invisible": True}
"""`Column.info` of what `SELECT *` and a positional INSERT must not see."""


class Schema(NamedTuple):
    """The tables of one source."""

    metadata: sa.MetaData
    events: sa.Table
    dead_letters: sa.Table
    instances: sa.Table
    lanes: sa.Table


def tables(names: TableNames) -> Schema:
    """The model of the newest revision, under the configured names."""
    metadata = sa.MetaData()
    return Schema(
        metadata,
        _events(metadata, names.events),
        _dead_letters(metadata, names.dead_letters),
        _instances(metadata, names.instances),
        _lanes(metadata, names.lanes),
    )


def _timestamp(name: str, default: str | None = None, *, nullable: bool = False) -> sa.Column[object]:
    clause = sa.text(default) if default else None
    return sa.Column(name, mysql.TIMESTAMP(fsp=6), nullable=nullable, server_default=clause)


def _string(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _event_id() -> sa.Column[str]:
    return sa.Column("event_id", sa.CHAR(36), nullable=False, unique=True)


def _trace() -> tuple[sa.Column[str], sa.Column[str]]:
    return sa.Column("trace_id", sa.CHAR(36)), sa.Column("span_id", sa.CHAR(36))


def _invisible_headers() -> sa.Column[object]:
    return sa.Column("headers", sa.JSON, info=INVISIBLE)


def _events(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True),
        _event_id(),
        _string("event_type", 255),
        _string("aggregate_type", 255),
        _string("aggregate_id", 255),
        sa.Column("status", sa.Integer, nullable=False, server_default=sa.text("0")),
        _string("topic", 255),
        sa.Column("payload", sa.JSON, nullable=False),
        *_trace(),
        sa.Column("attempt_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_at", sa.TIMESTAMP),
        sa.Column("last_error", sa.Text),
        _timestamp("created_at", NOW),
        _timestamp("updated_at", TOUCHED),
        sa.Column("lane", mysql.TINYINT(unsigned=True), sa.Computed(LANE_EXPRESSION, persisted=False), info=INVISIBLE),
        _invisible_headers(),
        sa.Index("idx_aggregate", "aggregate_type", "aggregate_id"),
        sa.Index("idx_created_at", "created_at"),
        sa.Index("idx_relay", "status", "lane", "next_attempt_at", "id", "topic"),
    )


def _dead_letters(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        _event_id(),
        _string("event_type", 255),
        _string("aggregate_type", 255),
        _string("aggregate_id", 255),
        _string("topic", 255),
        sa.Column("payload", sa.JSON, nullable=False),
        *_trace(),
        sa.Column("attempt_count", sa.Integer, nullable=False),
        _string("last_error", 2000, nullable=True),
        _timestamp("created_at", NOW),
        _invisible_headers(),
        sa.Column("moved_at", mysql.TIMESTAMP(fsp=6), info=INVISIBLE),
        sa.Column("reason", sa.String(64), info=INVISIBLE),
        sa.Column("lane", mysql.TINYINT(unsigned=True), sa.Computed(LANE_EXPRESSION, persisted=False), info=INVISIBLE),
        sa.Column("holds", mysql.TINYINT(unsigned=True), info=INVISIBLE),
        sa.Index("idx_holds_lane", "holds", "lane"),
    )


def _instances(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("name", sa.String(64), unique=True),
        _string("host", 255),
        sa.Column("pid", mysql.INTEGER(unsigned=True), nullable=False),
        _string("version", 32),
        _timestamp("started_at", NOW),
        _timestamp("expires_at", NOW),
        sa.Column("report", sa.JSON),
    )


def _lanes(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("lane", mysql.TINYINT(unsigned=True), primary_key=True, autoincrement=False),
        _string("owner", 80, nullable=True),
        sa.Column("deaths", mysql.INTEGER(unsigned=True), nullable=False, server_default=sa.text("0")),
        sa.Column("alone_id", sa.BigInteger),
        _timestamp("updated_at", TOUCHED),
        sa.Index("idx_owner", "owner"),
    )
