"""The commented config that `quincunx init vision_language` writes."""

from __future__ import annotations

STARTER = """\
# A first experiment: questions and statements about rendered pictures, answered from the features of regions.
#   quincunx data shapeworld --out world    the pictures, and examples of eight tasks
#   quincunx train FILE                     train, evaluate, write the run folder and its report
#   quincunx explain adapt.bottleneck       what a setting means
#   quincunx data import plain train.jsonl --split train --pictures FOLDER --out mine    one's own, in place of a world
recipe: vision_language
seed: 1

data:
  path: world
  tasks: [vqa, nlvr]     # also gqa, refcoco, vcr, caption, mmt, cls

text:
  task_prompts: true     # texts begin with their task's name

model:
  build:                 # or path: an encoder-decoder of the transformers library, such as t5-base
    architecture: t5
    width: 128
    num_layers: 2
    num_heads: 4
    vocab_size: 400      # of the tokenizer that is trained on the texts
  dropout: 0.0

pictures:
  features: butd         # stored features of regions; raw_RN50 and the like look at the pictures themselves

# adapt:                 # with a pretrained model: freeze it, and train adapters
#   bottleneck: true
#   single: true

update:
  batch_size: 64
budget:
  epochs: 8
optimizer:
  learning_rate: 0.001
evaluate:
  every: epoch
log:
  every: 50
"""
