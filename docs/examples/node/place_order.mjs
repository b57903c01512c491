const EVENT = `INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload)
  VALUES (UUID(), 'order.placed', 'order', ?, 'orders', ?)`;

export async function placeOrder(connection, order, total) {
  await connection.beginTransaction();
  try {
    await connection.execute('INSERT INTO orders (id, total) VALUES (?, ?)', [order, total]);
    await connection.execute(EVENT, [String(order), JSON.stringify({ order, total })]);
    await connection.commit();
  } catch (failure) {
    await connection.rollback();
    throw failure;
  }
}
