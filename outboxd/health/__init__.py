"""The HTTP endpoint: /metrics, /livez and /readyz."""
