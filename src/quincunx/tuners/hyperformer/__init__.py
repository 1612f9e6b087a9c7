"""Hyperformer: adapters whose weights small networks make out of what is learned of each task and each layer."""
