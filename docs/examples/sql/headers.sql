INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, headers)
VALUES (UUID(), 'order.placed', 'order', '42', 'orders', '{"order": 42}', JSON_OBJECT('tenant', 'acme', 'version', 2));
