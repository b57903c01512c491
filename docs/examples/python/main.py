"""DATABASE_DSN=mysql://root@127.0.0.1:3306/shop python main.py ORDER TOTAL (needs PyMySQL)"""

import os
import sys
from urllib.parse import urlsplit

import pymysql
from place_order import place_order

dsn = urlsplit(os.environ["DATABASE_DSN"])
with pymysql.connect(
    host=dsn.hostname,
    port=dsn.port or 3306,
    user=dsn.username,
    password=dsn.password or "",
    database=dsn.path.lstrip("/"),
) as connection:
    place_order(connection, int(sys.argv[1]), sys.argv[2])
