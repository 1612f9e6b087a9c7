"""The commented config that `quincunx init compression` writes."""

from __future__ import annotations

STARTER = """\
# A first experiment: a small language model that compresses 32 tokens of documentation into 8 and goes on from there.
#   quincunx train FILE                     train, evaluate, write the run folder and its report
#   quincunx inspect FILE --batch 0         what one batch looks like: who sees whom, what is to be predicted
#   quincunx explain compress.readout       what a setting means
recipe: compression
seed: 1

data:
  source: stdlib-text    # the running Python's own documentation; or text, with a path to your files
  context_length: 32     # tokens that are compressed
  forward_length: 32     # tokens that are predicted after them

tokenizer:
  vocabulary: 1024       # trained on the data

model:
  build:                 # or path: a causal language model of the transformers library
    num_layers: 2
    width: 128
    num_heads: 4

compress:
  readout: kv            # what is kept of a context: keys and values, or token states (tokens, mean_pool)
  slots: 8               # 4 tokens into one; a list trains several ratios in one model

objective:               # weights; all are measured in any case
  forward: 1
  reconstruction: 0.5
  without: 1             # the controls: yardsticks that are trained less flatter what is measured by them
  full: 1

update:
  batch_size: 32
budget:
  updates: 600
optimizer:
  learning_rate: 0.002
schedule:
  kind: cos
  warmup: 50
evaluate:
  every: 200
checkpoint:
  every: 200
log:
  every: 50
"""
