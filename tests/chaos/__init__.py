"""Faults injected into the real parts, and a ledger to count against: `python -m tests.chaos --list`."""
