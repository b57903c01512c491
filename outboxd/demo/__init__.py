"""`outboxd demo`: the real daemon between a real database and a broker, and an account of what became of each event."""
