START TRANSACTION;
UPDATE orders SET total = '89.50' WHERE id = 42; -- locks the order: another change of it waits here
INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload)
VALUES (UUID(), 'order.changed', 'order', '42', 'orders', JSON_OBJECT('order', 42, 'total', '89.50'));
COMMIT;
