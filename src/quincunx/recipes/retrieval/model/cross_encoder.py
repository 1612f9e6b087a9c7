"""The cross-encoder: a query and a document read as one sequence, one score.

B pairs, S tokens of a pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.nn.attention.parts import without_autocast
from quincunx.nn.pretrained.facts import padding_id, position_limit, takes_types
from quincunx.recipes.retrieval.model.text_encoder import run_backbone, switch_on_checkpointing, valid_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ScoreHead(nn.Linear):
    """A linear map to one score, in its weights' precision whatever autocast says: bf16 would give many documents of a
    query the same score."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `[B, 1]` of `[B, D]`."""
        with without_autocast(input):
            return functional.linear(input.to(self.weight.dtype), self.weight, self.bias)


class CrossEncoder(nn.Module):
    """A model with the head of its own architecture for one label: over [CLS], of a decoder over the last token.

    So a reranker that others trained is read as it stands (`quincunx.nn.pretrained.load_scorer`), and an encoder gets a
    new head of the usual form.

    Args:
        model: A sequence classifier of one label.
        gradient_checkpointing: The model keeps the inputs of its layers only and recomputes the rest in the backward
            pass. Changes no value.

    Raises:
        UsageError: The model has another number of labels, or cannot do gradient checkpointing.
    """

    def __init__(self, model: PreTrainedModel, *, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        if model.config.num_labels != 1:
            raise UsageError(
                f"a cross-encoder needs a head of one score, this one has {model.config.num_labels} labels"
            )
        self.model = model
        self.limit = position_limit(model)
        self.padding = padding_id(model)
        for module in model.modules():
            if type(module) is nn.Linear and module.out_features == 1:
                module.__class__ = ScoreHead  # the same parameters under the same names
        self.typed = takes_types(model)
        """Whether the model tells query and document apart by type ids."""
        if gradient_checkpointing:
            switch_on_checkpointing(model)

    def forward(self, tokens: Tensor, lengths: Tensor, types: Tensor | None = None) -> Tensor:
        """Return the score of each pair, `[B]`; the higher, the more relevant.

        Args:
            tokens: Token ids `[B, S]` of pairs (`quincunx.nn.pretrained.PairForm`), padded at the end with anything.
            lengths: `[B]` int64: valid tokens of each row, best left on the CPU.
            types: `[B, S]`: 0 for the query's part, 1 for the document's; not looked at by a model without type ids.

        Raises:
            DataError: The sequences are longer than the model's positions.
        """
        valid = valid_tokens(tokens, lengths)
        inputs: dict[str, Any] = {}
        if types is not None and self.typed:
            inputs["token_type_ids"] = (types if valid is None else types.masked_fill(~valid, 0)).long()
        return run_backbone(self.model, tokens, valid, self.padding, self.limit, **inputs).logits.squeeze(-1)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model in place, so that names in checkpoints stay as they are; arguments of torch.compile."""
        self.model.compile(*args, **kwargs)
