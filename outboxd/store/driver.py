"""PyMySQL without `cryptography`: 8 MB of a daemon, for one kind of login."""

import sys
from importlib import reload
from types import ModuleType
from typing import Any

from outboxd.absence import without


def import_pymysql() -> None:
    """Imports it, if nobody has. `cryptography` follows when a login needs it: by a password that MySQL has not seen
    lately, without TLS (PyMySQL's `_auth.sha2_rsa_encrypt`)."""
    if "pymysql" in sys.modules:
        return
    with without("cryptography"):
        from pymysql import _auth  # noqa: PLC0415 - not with another driver
    auth: Any = _auth
    if hasattr(auth, "sha2_rsa_encrypt"):
        auth.sha2_rsa_encrypt = _completing(auth)
    else:  # another PyMySQL
        reload(auth)


def _completing(auth: ModuleType) -> Any:
    def encrypt(*arguments: bytes) -> bytes:
        encrypted: bytes = reload(auth).sha2_rsa_encrypt(*arguments)
        return encrypted

    return encrypt
