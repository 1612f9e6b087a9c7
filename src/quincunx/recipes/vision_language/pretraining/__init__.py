"""Pretraining: what a model learns of pictures and texts by several losses, before there is a task."""
