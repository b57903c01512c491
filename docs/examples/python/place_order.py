import json

from pymysql import Connection

EVENT = """INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload)
    VALUES (UUID(), 'order.placed', 'order', %s, 'orders', %s)"""


def place_order(connection: Connection, order: int, total: str) -> None:
    connection.begin()
    try:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders (id, total) VALUES (%s, %s)", (order, total))
            cursor.execute(EVENT, (str(order), json.dumps({"order": order, "total": total})))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
