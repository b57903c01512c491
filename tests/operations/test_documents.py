"""The JSON that docs/operations.md shows has the keys of the JSON that the commands print."""

import json
import re
from typing import Any

from tests.migrate.support import Sql
from tests.operations.conftest import Run
from tests.operations.rows import insert_dead, insert_event
from tests.operations.test_status import REPORT, insert_instance
from tests.servers.cache import CHECKOUT

BLOCKS = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def keys(value: Any) -> Any:
    """A document without its values; lists by their first element."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(value[0])] if isinstance(value, list) else None


def test_documents_are_as_described(run: Run, sql: Sql) -> None:
    """Key by key, with everything that can be in them."""
    insert_instance(sql, "a", 60, json.dumps(REPORT), 64)
    insert_dead(sql, 1, holds=1)
    insert_event(sql, 2, status=2, next_attempt_at="2038-01-17 13:37:11")
    status, listed = (json.loads(block) for block in BLOCKS.findall((CHECKOUT / "docs/operations.md").read_text()))
    assert keys(json.loads(run("status", "--json").stdout)) == keys(status)
    assert keys(json.loads(run("deadletters", "list", "--json").stdout)) == keys(listed)
    shown = json.loads(run("deadletters", "show", "1", "--json", "--payload").stdout)
    assert [*shown] == [*listed["dead_letters"][0], "trace_id", "span_id", "headers", "payload_bytes", "payload"]
