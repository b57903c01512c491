"""How much the maintenance workers do at a time, and from where."""

from typing import Final

CHUNK: Final = 1000

LOWEST: Final = -(2**63)
"""In front of every id: an application may have chosen a negative one."""
