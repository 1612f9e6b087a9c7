"""Low-rank adapters: bottlenecks whose two maps are products of thin matrices."""
