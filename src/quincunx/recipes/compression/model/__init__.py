"""The model of the `compression` recipe: a causal language model with slots, and what compresses through them.

- `layout.py` trunk and branches as tokens with attributes, and their numbering; `masks.py` who sees whom;
- `new_tokens.py` trained tokens outside the vocabulary; `readout.py` states -> embeddings of the second pass;
- `compressor.py` states of branches in one pass or two; `segments.py` contexts in parts; `compressed.py` what is kept;
- `trained.py` which parameters are trained.
"""
