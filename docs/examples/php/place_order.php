<?php

const EVENT = "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload)
    VALUES (UUID(), 'order.placed', 'order', ?, 'orders', ?)";

function placeOrder(PDO $db, int $order, string $total): void
{
    $payload = json_encode(['order' => $order, 'total' => $total], JSON_THROW_ON_ERROR);
    $db->beginTransaction();
    try {
        $db->prepare('INSERT INTO orders (id, total) VALUES (?, ?)')->execute([$order, $total]);
        $db->prepare(EVENT)->execute([(string) $order, $payload]);
        $db->commit();
    } catch (Throwable $failure) {
        $db->rollBack();
        throw $failure;
    }
}
