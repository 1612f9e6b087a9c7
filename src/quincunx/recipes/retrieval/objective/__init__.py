"""What retrieval training minimises.

`contrastive` and `cross` hold the objectives that the engine runs; `masks`, `scores`, `infonce` and `distillation` are
the pure functions they are made of; `memory`, `queue`, `keys` and `drift` keep negatives of earlier batches;
`metric_learning` adapts the losses of pytorch-metric-learning; `counts` is arithmetic without torch.
"""
