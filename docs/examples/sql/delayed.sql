INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status, next_attempt_at)
VALUES (UUID(), 'order.reminder', 'order', '42', 'orders', '{"order": 42}', 2, NOW() + INTERVAL 1 DAY);
