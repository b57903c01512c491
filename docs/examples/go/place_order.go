package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
)

const event = `INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload)
	VALUES (UUID(), 'order.placed', 'order', ?, 'orders', ?)`

func placeOrder(ctx context.Context, db *sql.DB, order int64, total string) error {
	payload, err := json.Marshal(map[string]any{"order": order, "total": total})
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit
	if _, err := tx.ExecContext(ctx, "INSERT INTO orders (id, total) VALUES (?, ?)", order, total); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, event, strconv.FormatInt(order, 10), string(payload)); err != nil {
		return err
	}
	return tx.Commit()
}
