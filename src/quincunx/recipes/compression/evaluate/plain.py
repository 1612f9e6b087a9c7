"""A language model without compression: how well the next token is predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from quincunx.config.plan import Plan
from quincunx.data.loader import Source
from quincunx.engine.runtime import Runtime
from quincunx.metrics.language import mean_of, perplexity
from quincunx.metrics.record import Evaluation
from quincunx.recipes.compression.evaluate.batches import predictions
from quincunx.recipes.compression.shaping import Shaping

SEED = 0


@dataclass(frozen=True)
class PlainEvaluator:
    """Evaluates a language model on one split, each token predicted after the right ones before it."""

    split: str
    source: Source
    shaping: Shaping

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return loss, perplexity, accuracy, and the share of examples that are right in every token."""
        limit = plan.evaluation_limit if self.split == "dev" else None
        found = predictions(model, self.source, self.shaping, runtime, plan.evaluation_batch, SEED, limit)["plain"]
        loss = mean_of(found.loss)
        each = found.loss[~np.isnan(found.loss).all(axis=1)]
        scalars = {
            "loss": loss,
            # examples, not tokens, are drawn independently
            "loss_se": float(np.nanmean(each, axis=1).std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else 0.0,
            "perplexity": perplexity(loss),
            "accuracy": mean_of(found.right),
            "accuracy_top5": mean_of(found.in_top),
            "exact": float(found.whole.mean()),
        }
        note = (
            f"{self.split}: loss {loss:.4f}, perplexity {scalars['perplexity']:.4g}, "
            f"{100 * scalars['accuracy']:.1f} % of {found.tokens:,} tokens right"
        )
        return Evaluation({name: value for name, value in scalars.items() if math.isfinite(value)}, notes=[note])
