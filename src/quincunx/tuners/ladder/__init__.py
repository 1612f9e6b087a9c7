"""Ladder side network: a small network beside frozen layers, whose states can be kept on disk between epochs.

- `side.py` the network: what it computes from the states of the layers it stands beside;
- `view.py` who sees whom in it;
- `past.py` where it keeps what it knows of earlier tokens in generation;
- `layer.py` what stands round layers and stacks, and passes their states on;
- `cache.py` the files that states are kept in; `keeping.py` what is kept of an example, and when it holds;
- `model.py` where all of it goes in a model.
"""
