"""Compacter: bottlenecks whose maps are sums of Kronecker products with rules that may be shared."""
