"""Benchmarks: outboxd as a process of its own, beside the bare loop, in one run on one machine."""
