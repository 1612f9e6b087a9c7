"""Metrics: pure functions and exact accumulators; no metric depends on how the data is batched."""
