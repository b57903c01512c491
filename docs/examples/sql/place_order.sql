START TRANSACTION;
INSERT INTO orders (id, total) VALUES (42, '99.50');
INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload)
VALUES (UUID(), 'order.placed', 'order', '42', 'orders', JSON_OBJECT('order', 42, 'total', '99.50'));
COMMIT;
