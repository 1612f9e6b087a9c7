"""Bottleneck adapters: sequential, parallel, scaled, gated; one for all tasks, or one each."""
