"""The model: an encoder-decoder that reads words and visual tokens and writes words.

B examples, S words, N rows of features, I pictures of an example, T words to write, V vocabulary, L encoder tokens,
D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.examples import ExampleAware
from quincunx.nn.routing import TaskRouted
from quincunx.nn.rows import Columns, RowAware
from quincunx.recipes.vision_language.model.downsample import Downsample
from quincunx.recipes.vision_language.model.joint import Encoded, JointEncoder, JointOptions
from quincunx.recipes.vision_language.model.rows import Rows, make_rows
from quincunx.recipes.vision_language.model.visual import VisualEmbedding
from quincunx.tuners.positions import Teller

INPUTS = (
    "input_ids", "attention_mask", "features", "pixels", "boxes", "visual_mask", "image_ids", "object_ids",
)  # fmt: skip
"""The tensors of a batch that the encoder reads."""


class VisionLanguageModel(Teller):
    """A backbone with eyes.

    Args:
        backbone: A Hugging Face encoder-decoder with a head, before adapters are put into it; changed in place.
        visual: Embeds rows of features; None: the backbone alone, for texts.
        downsample: Makes rows, or visual tokens, fewer; None: they stay.
        vision: Makes rows of pixels, `[b, 3, H, W]` to `[b, N, F]`; None: batches have features.
        joint: What the encoder makes of visual tokens.

    Raises:
        UsageError: Parts that do not go together, or a backbone that cannot be used.
    """

    base_model_prefix = ""
    """Asked for by libraries that take what has a `config` for a model of Hugging Face: nothing is inside anything."""

    def __init__(
        self,
        backbone: Any,
        visual: VisualEmbedding | None = None,
        *,
        downsample: Downsample | None = None,
        vision: nn.Module | None = None,
        joint: JointOptions | None = None,
    ) -> None:
        super().__init__()
        if visual is None and (downsample is not None or vision is not None or joint is not None):
            raise UsageError("without a visual embedding a model reads texts alone: leave what is for pictures out")
        width = backbone.get_input_embeddings().embedding_dim
        if visual is not None and visual.width != width:
            raise UsageError(f"the visual embedding is {visual.width} wide, the backbone {width}")
        # the names are those by which the tuners know parts of a model (quincunx.tuners.parts.PARTS)
        self.language_model = backbone
        self.visual_embedding = visual
        self.downsample = downsample
        self.vision_tower = vision
        self.row = RowAware()
        """Knows the rows at hand."""
        self.joint = JointEncoder(backbone, joint, self.row)

    @property
    def config(self) -> Any:
        """The backbone's config."""
        return self.language_model.config

    def get_input_embeddings(self) -> nn.Module:
        """Return the backbone's embedding of words."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """Return the backbone's head."""
        return self.language_model.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        features: Tensor | None = None,
        pixels: Tensor | None = None,
        boxes: Tensor | None = None,
        visual_mask: Tensor | None = None,
        image_ids: Tensor | None = None,
        object_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoded: Encoded | None = None,
    ) -> Tensor:
        """Return the logits of every next word, each having seen the right words before it.

        Args:
            input_ids: `[B, S]`.
            attention_mask: `[B, S]`, 1 where there is a word; None: everywhere.
            labels: `[B, T]`, what is to be written, -100 where nothing is.
            features: `[B, N, F]`; see `make_rows` for this and the next four.
            pixels: `[B, I, 3, H, W]`, in place of features.
            boxes: `[B, N, 4]`.
            visual_mask: `[B, N]`; of pixels `[B, I]`, which pictures there are.
            image_ids: `[B, N]`; beside pixels they are counted.
            object_ids: `[B, N]`; beside pixels they are counted.
            decoder_input_ids: `[B, T]`, in place of labels: what the decoder reads.
            encoded: From `encode`, where the same input is asked for several targets; the tensors above are not read
                then.

        Returns:
            `[B, T, V]`.

        Raises:
            UsageError: Neither labels nor what the decoder reads, or both; tensors that do not go together.
            DataError: More tokens, pictures or objects than the model has embeddings for.
        """
        if (labels is None) == (decoder_input_ids is None):
            raise UsageError("the decoder reads labels, moved by one, or decoder_input_ids: give one of them")
        if encoded is None:
            encoded = self.encode(
                input_ids, attention_mask, features=features, pixels=pixels, boxes=boxes, visual_mask=visual_mask,
                image_ids=image_ids, object_ids=object_ids,
            )  # fmt: skip
        given = decoder_input_ids if labels is None else self.shift(labels)
        # the decoder needs no mask for this, for nothing that counts looks at padding behind it
        columns = Columns(memory=encoded.columns)
        with self.telling(None if labels is None else labels != -100), self.row.numbering(columns):
            found: Any = self.language_model(
                encoder_outputs=_outputs(encoded.states),
                attention_mask=encoded.mask,
                decoder_input_ids=given,
                use_cache=False,
            )
        return found.logits

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        features: Tensor | None = None,
        pixels: Tensor | None = None,
        boxes: Tensor | None = None,
        visual_mask: Tensor | None = None,
        image_ids: Tensor | None = None,
        object_ids: Tensor | None = None,
    ) -> Encoded:
        """Return the encoder's states `[B, L, D]` and their mask `[B, L]`; arguments and errors as in `forward`."""
        rows = self._rows(features, pixels, boxes, visual_mask, image_ids, object_ids)
        return self.joint(input_ids, attention_mask, None if rows is None else self.see(rows))

    @torch.no_grad()
    def generate(
        self, inputs: Mapping[str, Tensor], *, num_beams: int = 1, max_length: int = 20, **options: Any
    ) -> Tensor:
        """Return what the model writes, `[B, at most max_length]`, begun by the decoder's start; in the mode it is in.

        Args:
            inputs: Tensors of a batch; those that the encoder reads are taken.
            num_beams: Beams of the search; 1: the likeliest word each time.
            max_length: Tokens at most, the start included.
            options: Of the library's `generate`.
        """
        encoded = self.encode(**{name: inputs[name] for name in INPUTS if name in inputs})
        return self.language_model.generate(
            encoder_outputs=_outputs(encoded.states),
            attention_mask=encoded.mask,
            **{"do_sample": False, "num_beams": num_beams, "max_length": max_length, **options},
        )

    def see(self, rows: Rows) -> Rows:
        """Return the visual tokens of rows of features, fewer where they are downsampled."""
        assert self.visual_embedding is not None
        kind = self.visual_embedding.box.weight.dtype  # stored features are halves, which would be pooled as such
        rows = replace(rows, features=rows.features.to(kind), boxes=rows.boxes.to(kind))
        if self.downsample is not None and not self.downsample.after_embedding:
            rows = self.downsample(rows)
        rows = self.visual_embedding(rows, self.language_model.get_input_embeddings())
        if self.downsample is not None and self.downsample.after_embedding:
            rows = self.downsample(rows)
        return rows

    def shift(self, labels: Tensor) -> Tensor:
        """Return what the decoder reads to write labels `[B, T]`, moved by one, as the backbone itself moves them.

        Raises:
            UsageError: The backbone does not know what its decoder begins with, or what it pads with.
        """
        config = self.language_model.config
        start, padding = config.decoder_start_token_id, config.pad_token_id
        own = getattr(self.language_model, "prepare_decoder_input_ids_from_labels", None)
        if own is not None:
            try:
                return own(labels=labels)
            except (ValueError, TypeError) as error:
                raise UsageError(
                    f"the backbone cannot begin to write: its config has decoder_start_token_id {start}, pad_token_id "
                    f"{padding} ({error})"
                ) from error
        if start is None or padding is None:
            raise UsageError("the backbone's config lacks decoder_start_token_id or pad_token_id: set them")
        moved = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], 1)
        return moved.masked_fill(moved == -100, padding)

    def _rows(
        self,
        features: Tensor | None,
        pixels: Tensor | None,
        boxes: Tensor | None,
        visual_mask: Tensor | None,
        image_ids: Tensor | None,
        object_ids: Tensor | None,
    ) -> Rows | None:
        if self.visual_embedding is None:
            return None
        if features is not None and pixels is not None:
            raise UsageError("a batch has features or pixels, and this one has both")
        if pixels is not None:
            rows = self._rows_of(pixels, visual_mask)
        elif features is not None:
            rows = make_rows(features, boxes, visual_mask, image_ids, object_ids)
        else:
            return None
        return rows if rows.mask.shape[1] else None

    def _rows_of(self, pixels: Tensor, there: Tensor | None) -> Rows:
        """Return the rows of pictures `[B, I, 3, H, W]`, of which `there [B, I]` says which exist."""
        if self.vision_tower is None:
            raise UsageError("the model has no image encoder, and the batch has pixels: store features of them first")
        if pixels.ndim != 5:
            raise UsageError(f"pixels must be [batch, pictures, 3, height, width], found {list(pixels.shape)}")
        batch, images = pixels.shape[:2]
        if there is not None and tuple(there.shape) != (batch, images):
            raise UsageError(f"visual_mask must be {[batch, images]} beside such pixels, found {list(there.shape)}")
        exists = torch.ones(batch, images, dtype=torch.bool, device=pixels.device) if there is None else there.bool()
        if not bool(exists.any()):
            # one row that does not count, so that the model's parts are used by every batch alike
            assert self.visual_embedding is not None
            blank = pixels.new_zeros(batch, images, self.visual_embedding.feature_width)
            return make_rows(blank, visual_mask=exists)
        # what is no picture is not shown, for a batch norm would count it; but adapters that know whose task or example
        # a row is find that by an equal number of rows for each example
        whole = any(isinstance(module, TaskRouted | ExampleAware) for module in self.vision_tower.modules())
        with self._pictures(torch.ones_like(exists) if whole else exists):
            seen: Tensor = self.vision_tower(pixels.flatten(0, 1) if whole else pixels[exists])
        if seen.ndim != 3:
            raise UsageError(f"the image encoder must give [pictures, rows, width], found {list(seen.shape)}")
        count = seen.shape[1]
        if whole:
            features = seen.unflatten(0, (batch, images))
        else:
            features = seen.new_zeros(batch, images, *seen.shape[1:]).masked_scatter(exists[..., None, None], seen)
        number = torch.arange(images, device=pixels.device)[None, :, None].expand(batch, -1, count)
        place = torch.arange(count, device=pixels.device).expand(batch, images, -1)
        return make_rows(
            features.flatten(1, 2),
            visual_mask=exists[..., None].expand(-1, -1, count).flatten(1),
            image_ids=number.flatten(1),
            object_ids=place.flatten(1),
        )

    def _pictures(self, shown: Tensor) -> AbstractContextManager[None]:
        """Say for a while that rows are pictures, of which `shown [B, I]` are."""
        context = self.row.context
        if context is None or not self.training:
            return nullcontext()
        return context.members(*shown.nonzero(as_tuple=True))


def _outputs(states: Tensor) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=states)  # pyright: ignore[reportArgumentType]
