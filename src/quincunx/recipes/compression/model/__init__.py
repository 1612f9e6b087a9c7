"""The model of the `compression` recipe: a causal language model with slots, and what compresses through them.

- `layout.py` trunk and branches as tokens with attributes, and their numbering; `masks.py` who sees whom;
- `compressor.py` states of branches in one pass or two; `segments.py` the first pass, segment by segment;
- `parts.py` attention without scores that nobody needs; `last_layer.py` the last layer without tokens nobody reads;
- `new_tokens.py` trained tokens outside the vocabulary; `readout.py` states -> embeddings of the second pass;
- `compressed.py` what is kept of a context; `trained.py` which parameters are trained.
"""
