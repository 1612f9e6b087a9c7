"""The config that `init` writes: code search in Python's own library, from scratch, on a laptop."""

from __future__ import annotations

STARTER = """\
# A first experiment: which function of Python's standard library does a sentence describe? A small encoder and its
# tokenizer are built and trained from nothing.
#   quincunx data stdlib-code-search --out stdlib-code-search    make the data, once
#   quincunx train FILE                                          train, evaluate, write the run folder and its report
#   quincunx explain objective.temperature                       what a setting means
recipe: retrieval
mode: bi-encoder         # or poly-encoder, cross-encoder
seed: 1

data:
  path: stdlib-code-search
  mix:                   # functions that say nothing, under the words of their names: three times as many pairs
  - path: stdlib-code-search/names.jsonl

encoder:                 # path: a folder or hub name, in place of build and tokenizer, fine-tunes what is there
  build:
    num_layers: 1
    width: 192
    num_heads: 4
    positions: 128
    options:
      hidden_dropout_prob: 0.2
  tokenizer:
    kind: wordpiece
    vocabulary: 8000
  pooling: mean
query:
  max_length: 32
document:
  max_length: 128

objective:
  loss: infonce          # the batch's other documents are negatives; equal texts and known positives never are
  similarity: cosine
  temperature: 0.05

update:
  batch_size: 128        # queries per update, and with them the negatives
budget:
  epochs: 4
optimizer:
  learning_rate: 0.002
schedule:
  kind: linear
  warmup: 30
evaluate:
  every: epoch
  measures: [ndcg_cut_10, recip_rank_cut_10, recall_100]
  beside: [bm25, rrf, weighted]      # what costs no training, and both together
checkpoint:
  every: 0.5             # twice an epoch: kill the run and `quincunx train FILE --resume` goes on
log:
  every: 25
"""
