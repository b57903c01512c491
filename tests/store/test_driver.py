"""A login that needs `cryptography` gets it, and no other does."""

import subprocess
import sys

from tests.servers.mysql import MySQL

LOGIN = """
import sys
from outboxd.store.engine import ConnectOptions, open_engine
for _ in range(2):
    with open_engine(sys.argv[1], ConnectOptions(tls=sys.argv[2])).connect() as connection:
        print(connection.exec_driver_sql("SELECT CURRENT_USER()").scalar_one(), "cryptography" in sys.modules)
"""


def test_only_a_password_without_tls_needs_it(mysql: MySQL) -> None:
    """MySQL asks for it once, encrypted by its key; then it remembers the password."""
    said = []
    for tls in ("preferred", "disabled"):
        mysql.query("CREATE USER secretive@'%' IDENTIFIED WITH caching_sha2_password BY 'a word'")
        url = f"mysql://secretive:a%20word@127.0.0.1:{mysql.port}/information_schema"
        try:
            command = [sys.executable, "-c", LOGIN, url, tls]
            said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
        finally:
            mysql.query("DROP USER secretive@'%'")
    assert said == [["secretive@% False"] * 2, ["secretive@% True"] * 2]
