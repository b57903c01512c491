START TRANSACTION;
UPDATE outbox_deadletters SET topic = 'orders' WHERE id = 210; -- the repair, where the row is at fault
INSERT INTO outbox_events
  (id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, trace_id, span_id, headers, created_at)
SELECT id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, trace_id, span_id, headers, created_at
FROM outbox_deadletters WHERE id = 210;
DELETE FROM outbox_deadletters WHERE id = 210;
COMMIT;
