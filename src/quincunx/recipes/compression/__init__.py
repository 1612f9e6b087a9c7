"""The `compression` recipe: causal language models that compress context, skip steps and generalise in length."""
