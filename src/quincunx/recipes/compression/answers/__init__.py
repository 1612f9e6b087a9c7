"""What a trained run is for: contexts compressed and kept, and texts that go on from them.

- `compress.py` a run as what compresses (`quincunx.Compressor`); `contexts.py` contexts of any length;
- `generate.py` one token after another; `writing.py` the same for a run's texts; `vocabulary.py` texts as tokens;
- `saved.py` compressed contexts as files; `predict.py` rows of `quincunx predict`.
"""
