"""Cross-entropy of what is to be said, of each example the mean over its words or over all words alike; or of answers.

B rows, T words, V vocabulary, N visual tokens, C words to choose from, A known answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed
from quincunx.recipes.vision_language.collate import NONE, TOKENS, UNTRAINED
from quincunx.recipes.vision_language.model.heads import first_state, head_inputs, visual_states
from quincunx.recipes.vision_language.model.joint import Encoded
from quincunx.recipes.vision_language.model.seq2seq import INPUTS

Learning = Literal["scores", "classes"]
"""`scores`: several answers are right, each so far; `classes`: one is."""
HOLD = (
    "set unfreeze.hold_batch_norms=true, which keeps the statistics of the image encoder's batch norms (those that "
    "adapt.vision puts in are left out by adapt.vision_without_batch_norm=true)"
)
"""What helps where the image encoder computes statistics over batches that are cut."""


class Saying(Summed):
    """What is to be said, word by word.

    `answers` are rows of tasks that are measured by examples: the mean of a row's words, times the row's weight (how
    right the drawn answer is); where regions are pointed at, the cross-entropy of the one that is meant. `words` are
    those of captions and translations: every word counts the same. A batch of one task has one of the two; one of
    several adds up the two means.

    Args:
        judged: Tasks whose answers are judged in training, by their numbers: each is a term `<task>_accuracy` that is
            logged and not learnt; batches need `choices`.
        first: Place of the first word of an answer among the labels.
    """

    statistics_remedy = HOLD

    def __init__(self, judged: Mapping[str, int] | None = None, first: int = 0) -> None:
        super().__init__()
        self._judged = {f"{name}_accuracy": number for name, number in (judged or {}).items()}
        self._first = first
        self.terms = ("answers", "words", *self._judged)
        self.coefficients = dict.fromkeys(self._judged, 0.0)

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return the number of answers, those without weight left out, the number of words, and of what is judged."""
        said, by_words = (batch["labels"] != UNTRAINED).sum(1), batch["by"] == TOKENS
        answers = (~by_words & (batch["weight"] > 0) & (said > 0)).sum()
        judged = {term: float(self._rows(batch, number).sum()) for term, number in self._judged.items()}
        return {"answers": float(answers), "words": float(said[by_words].sum()), **judged}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return the sums, computed in float32 from logits `[B, T, V]`."""
        labels, inputs = chunk["labels"], inputs_of(chunk)
        model_: Any = model
        points = bool("points" in chunk.tensors and (chunk["points"] != NONE).any())
        encoded: Encoded | None = model_.encode(**inputs) if points else None
        with head_inputs(model) if points else nullcontext([]) as states:
            logits: Tensor = model_(**inputs, labels=labels, encoded=encoded)
        losses, said = row_losses(logits, labels)
        means = losses / said.clamp(min=1)
        pointed = None
        if encoded is not None:
            # what the decoder makes of its start, behind soft prompts: causal, so that what is said does not matter
            pointed = pointer_scores(model, encoded, chunk, states[-1][:, -labels.shape[1]])
            rows = (chunk["points"] != NONE).nonzero()[:, 0]
            own = functional.cross_entropy(pointed[rows], chunk["points"][rows], reduction="none")
            means = means.index_copy(0, rows, own)
        by_words = chunk["by"] == TOKENS
        return {
            "answers": torch.where(by_words, 0.0, means * chunk["weight"]).sum(),
            "words": torch.where(by_words, losses, 0.0).sum(),
            **{term: self._right(chunk, logits, pointed, number) for term, number in self._judged.items()},
        }

    @torch.no_grad()
    def _right(self, chunk: Batch, logits: Tensor, pointed: Tensor | None, number: int) -> Tensor:
        """Return how many rows of a task are answered rightly."""
        rows = self._rows(chunk, number)
        if pointed is not None and bool((chunk["points"][rows] != NONE).any()):
            return (pointed.argmax(1) == chunk["points"])[rows].sum().to(pointed.dtype)
        choices = chunk["choices"]
        if not choices.shape[1]:
            return logits.new_zeros(())
        scores = logits[:, self._first].gather(1, choices.clamp(min=0))
        chosen = scores.masked_fill(choices == NONE, -torch.inf).argmax(1, keepdim=True)
        return (choices.gather(1, chosen)[:, 0] == chunk["labels"][:, self._first])[rows].sum().float()

    def _rows(self, batch: Batch, number: int) -> Tensor:
        return (batch["tasks"] == number) & (batch["weight"] > 0)


class Choosing(Summed):
    """Which of the known answers is right, by a head of its own.

    Args:
        learning: `scores`: of each answer a binary cross-entropy with how right it is, summed over answers, as VL-T5
            and LXMERT learn VQA; `classes`: one cross-entropy over answers.
    """

    terms = ("answers",)
    statistics_remedy = HOLD

    def __init__(self, learning: Learning) -> None:
        super().__init__()
        self._learning: Learning = learning

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return the number of rows with a known answer."""
        return {"answers": float((batch["scores"] > 0).any(1).sum())}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return the sum over rows, from scores `[B, A]` in float32."""
        found, right = _precise(answer_scores(model, chunk)), chunk["scores"]
        if self._learning == "scores":
            losses = functional.binary_cross_entropy_with_logits(found, right, reduction="none").sum(1)
        else:
            losses = functional.cross_entropy(found, right.argmax(1), reduction="none")
        return {"answers": torch.where((right > 0).any(1), losses, 0.0).sum()}


def answer_scores(model: nn.Module, batch: Batch) -> Tensor:
    """Return what the head for answers gives each of them `[B, A]`."""
    model_: Any = model
    return model_.answer_head(first_state(model, model_.encode(**inputs_of(batch)), batch["input_ids"]))


def pointer_scores(model: nn.Module, encoded: Encoded, batch: Batch, state: Tensor) -> Tensor:
    """Return how far each visual token is pointed at `[B, N]`, in float32; minus infinity where there is none.

    Args:
        model: With a pointer.
        encoded: What its encoder made of the batch.
        batch: B rows.
        state: Of the decoder after its start `[B, D]`.
    """
    mask, model_ = batch["visual_mask"], model
    tokens = visual_states(model_, encoded, batch["attention_mask"], mask.shape[1])
    scores: Tensor = model_.pointer_head(state, tokens)  # pyright: ignore[reportCallIssue]
    return _precise(scores).masked_fill(mask == 0, -torch.inf)


def row_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of each row's cross-entropies `[B]`, and how many words each has `[B]`."""
    losses = functional.cross_entropy(
        _precise(logits).flatten(0, 1), labels.flatten(), ignore_index=UNTRAINED, reduction="none"
    )
    return losses.view(labels.shape).sum(1), (labels != UNTRAINED).sum(1)


def _precise(x: Tensor) -> Tensor:
    """Return a tensor in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def inputs_of(batch: Batch) -> Mapping[str, Tensor]:
    """Return the tensors that the encoder reads, by the names of the model's arguments."""
    return {name: batch[name] for name in INPUTS if name in batch.tensors}
