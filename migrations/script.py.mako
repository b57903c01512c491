"""${message}"""

import sqlalchemy as sa

from outboxd.store.ddl import Steps

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def check_upgrade(steps: Steps) -> None:
    """Refuses, before anything is changed, what could not be finished."""


def check_downgrade(steps: Steps) -> None:
    """Refuses what would lose something, or disturb a daemon that runs."""


def upgrade(steps: Steps) -> None:
    """Each step is online, and may be repeated."""


def downgrade(steps: Steps) -> None:
    """The way back."""
