"""The whole model: logits, what it writes, pixels, downsampled rows, and what it refuses."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.engine.addressing import attach_dropout
from quincunx.errors import UsageError
from quincunx.nn.rows import attach_rows
from quincunx.recipes.vision_language.model.downsample import DOWNSAMPLERS, SparseSample
from quincunx.recipes.vision_language.model.joint import JointOptions
from quincunx.recipes.vision_language.model.seq2seq import INPUTS, VisionLanguageModel
from quincunx.recipes.vision_language.model.visual import VisualEmbedding
from quincunx.tuners.trainable import part_of
from tiny_models import MODELS, inputs_for
from vision_language_models import BACKBONES, FEATURES, ROWS, alone, batch, model_of, wider

both = pytest.mark.parametrize("backbone", ["bart", "t5"])


class Eyes(nn.Module):
    """Makes four rows of a picture, and tells how many pictures it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3, FEATURES)
        self.shown: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.shown.append(len(pixels))
        rows = nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(2).transpose(1, 2)
        return self.map(rows)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_logits_are_those_of_the_stock_decoder_over_the_joint_states(backbone: str) -> None:
    model, inputs = model_of(backbone), batch()
    labels = inputs["labels"]
    with torch.no_grad():
        found = model(**inputs)
        encoded = model.encode(**{name: inputs[name] for name in INPUTS if name in inputs})
        stock = model.language_model(encoder_outputs=(encoded.states,), attention_mask=encoded.mask, labels=labels)
        assert torch.equal(found, stock.logits) and found.shape == (ROWS, 5, 40)
        again = model(inputs["input_ids"], labels=labels, encoded=encoded)
        assert torch.equal(again, found)
        given = model(**{name: each for name, each in inputs.items() if name != "labels"},
                      decoder_input_ids=model.shift(labels))  # fmt: skip
        assert torch.equal(given, found)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_example_is_what_it_is_alone(backbone: str) -> None:
    model, inputs = model_of(backbone), batch()
    with torch.no_grad():
        expected = model(**inputs)
        for row in range(ROWS):
            torch.testing.assert_close(model(**alone(inputs, row)), expected[row : row + 1], rtol=1e-5, atol=2e-5)


@both
def test_gradients_of_chunks_add_up_to_those_of_the_batch(backbone: str) -> None:
    def gradients(parts: list[slice]) -> dict[str, Tensor]:
        model, inputs = model_of(backbone), batch()
        weights = torch.linspace(-1, 1, 40)
        for part in parts:
            (model(**{name: each[part] for name, each in inputs.items()}) * weights).sum().backward()
        return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}

    expected, found = gradients([slice(0, 4)]), gradients([slice(0, 1), slice(1, 3), slice(3, 4)])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.isfinite().all()
        assert float((found[name] - value).norm()) <= 2e-5 * float(value.norm()) + 1e-6, name


@both
def test_pictures_and_their_boxes_order_and_number_matter(backbone: str) -> None:
    model, inputs = model_of(backbone), batch()
    with torch.no_grad():
        expected = model(**inputs)
        for name, change in (("features", 1.0), ("boxes", 1.0), ("object_ids", 1)):
            changed = (model(**{**inputs, name: inputs[name] + change}) - expected).abs().amax((1, 2)) > 1e-5
            assert changed.tolist() == [True, True, False, True], name
        swapped = model(**{**inputs, "image_ids": 1 - inputs["image_ids"]})
        assert ((swapped - expected).abs().amax((1, 2)) > 1e-5).tolist() == [True, True, False, True]
        less = {name: each for name, each in inputs.items() if name not in ("features", "boxes", "visual_mask")}
        torch.testing.assert_close(model(**less)[2], expected[2], rtol=1e-5, atol=1e-5)


@both
def test_without_eyes_it_is_the_backbone(backbone: str) -> None:
    plain, model = MODELS[backbone](), VisionLanguageModel(MODELS[backbone]())
    inputs = inputs_for(plain)
    with torch.no_grad():
        assert torch.equal(model(**inputs), plain(**inputs).logits)
        reads = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        assert torch.equal(model.generate(reads, max_length=6), plain.generate(**reads, max_length=6))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_pictures_may_come_without_a_word(backbone: str) -> None:
    """As captions are asked for with no text at all."""
    model, inputs = model_of(backbone), batch()
    shown = {name: each[[0, 1, 3]] for name, each in inputs.items()}
    none = {**shown, "input_ids": shown["input_ids"][:, :0], "attention_mask": shown["attention_mask"][:, :0]}
    padded = {**shown, "attention_mask": shown["attention_mask"] * 0}
    with torch.no_grad():
        found = model(**none)
        assert found.isfinite().all()
        torch.testing.assert_close(model(**padded), found, rtol=1e-5, atol=1e-5)
        assert model.generate(none, max_length=4).shape[0] == 3


@both
@pytest.mark.parametrize("word", ["", *DOWNSAMPLERS])
def test_it_runs_in_half_precision(backbone: str, word: str) -> None:
    downsample = DOWNSAMPLERS[word](4, "max") if word else None
    model, inputs = model_of(backbone, downsample=downsample), batch()
    if word == "grid":
        inputs = {**inputs, "visual_mask": (torch.arange(6) < 4).long().expand(ROWS, -1)}
        inputs |= {"features": torch.randn(ROWS, 6, FEATURES), "boxes": torch.rand(ROWS, 6, 4)}
        inputs["image_ids"] = inputs["image_ids"] * 0
    stored = {**inputs, "features": inputs["features"].half()}
    with torch.no_grad():
        expected = model(**stored)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(**stored)
        assert float((found.float() - expected).norm() / expected.norm()) < 0.05
        halved = model.bfloat16()(**stored)
        assert halved.dtype == torch.bfloat16 and float((halved.float() - expected).norm() / expected.norm()) < 0.1


def unforced(model: Any) -> Any:
    """Return the model without words that it must write."""
    model.language_model.generation_config.forced_eos_token_id = None
    model.language_model.generation_config.forced_bos_token_id = None
    return model


@both
def test_it_writes_the_likeliest_word_each_time(backbone: str) -> None:
    model, inputs = unforced(model_of(backbone)), batch()
    reads = {name: inputs[name] for name in INPUTS if name in inputs}
    start = model.config.decoder_start_token_id
    written = torch.full((ROWS, 1), start)
    with torch.no_grad():
        for _ in range(4):
            logits = model(**reads, decoder_input_ids=written)[:, -1]
            logits[:, model.config.eos_token_id] = -torch.inf
            written = torch.cat([written, logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(model.generate(inputs, max_length=5, min_length=5), written)
    assert torch.equal(model.generate(wider(inputs), max_length=5, min_length=5), written)
    assert torch.equal(model.generate(inputs, max_length=5, min_length=5, use_cache=False), written)


@both
def test_beams_find_the_likeliest_sentence(backbone: str) -> None:
    """With as many beams as words, a search of two words is a search of all pairs."""
    model, inputs = unforced(model_of(backbone)), batch()
    reads = {name: inputs[name] for name in INPUTS if name in inputs}
    end, start = model.config.eos_token_id, model.config.decoder_start_token_id
    words = [word for word in range(40) if word != end]
    pairs = torch.tensor(list(itertools.product(words, words)))
    with torch.no_grad():
        encoded = model.encode(**reads)
        first = model(inputs["input_ids"], decoder_input_ids=torch.full((ROWS, 1), start), encoded=encoded)[:, 0]
        first[:, end] = -torch.inf
        scores = first.log_softmax(-1)
        second: list[Tensor] = []
        for word in words:
            given = torch.tensor([[start, word]]).expand(ROWS, -1)
            logits = model(inputs["input_ids"], decoder_input_ids=given, encoded=encoded)[:, 1]
            second.append(logits.log_softmax(-1)[:, words])
        plain = first.masked_fill(first == -torch.inf, 0)
        assert plain.isfinite().all() and scores.shape == (ROWS, 40)
        raw = model(inputs["input_ids"], decoder_input_ids=torch.full((ROWS, 1), start), encoded=encoded)[:, 0]
        total = raw.log_softmax(-1)[:, words][:, :, None] + torch.stack(second, 1)
    best = pairs[total.flatten(1).argmax(1)]
    found = model.generate(inputs, num_beams=39, max_length=3, min_length=3)
    assert torch.equal(found[:, 1:], best)


@both
def test_pixels_are_seen_and_missing_pictures_are_not_shown(backbone: str) -> None:
    eyes = Eyes()
    model, inputs = model_of(backbone, vision=eyes), batch()
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(ROWS, 2, 3, 8, 8, generator=generator)
    there = torch.tensor([[1, 1], [1, 0], [0, 0], [0, 1]])
    own = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        found = model(**own, pixels=pixels, visual_mask=there)
        assert eyes.shown == [4]
        rows = eyes(pixels.flatten(0, 1)).view(ROWS, 8, FEATURES)
        expected = model(
            **own,
            features=rows,
            visual_mask=there.repeat_interleave(4, 1),
            image_ids=torch.tensor([0] * 4 + [1] * 4).expand(ROWS, -1),
            object_ids=torch.arange(4).repeat(2).expand(ROWS, -1),
        )
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        blind = model(**own, pixels=pixels[2:3].expand(ROWS, -1, -1, -1, -1), visual_mask=there * 0)
        torch.testing.assert_close(blind[2], found[2], rtol=1e-5, atol=1e-5)
    model(**own, pixels=pixels, visual_mask=there).sum().backward()
    assert eyes.map.weight.grad is not None and eyes.map.weight.grad.any()


@pytest.mark.parametrize("word", DOWNSAMPLERS)
@both
def test_fewer_rows_are_those_of_each_example(word: str, backbone: str) -> None:
    model, inputs = model_of(backbone, downsample=DOWNSAMPLERS[word](4, "mean")), batch()
    if word == "grid":  # four rows of one picture, one of each of two, and none
        there = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0], [0] * 6, [1, 0, 0, 0, 0, 0]])
        inputs = {
            **inputs,
            "visual_mask": there,
            "features": torch.randn(ROWS, 6, FEATURES),
            "boxes": torch.rand(ROWS, 6, 4),
        }
    with torch.no_grad():
        expected = model(**inputs)
        assert expected.isfinite().all()
        torch.testing.assert_close(model(**wider(inputs)), expected, rtol=1e-5, atol=1e-5)
        for row in range(ROWS):
            own = {name: each[row : row + 1] for name, each in inputs.items()}
            torch.testing.assert_close(model(**own), expected[row : row + 1], rtol=1e-5, atol=2e-5)


def test_what_is_chosen_in_training_belongs_to_the_example() -> None:
    model, inputs = model_of("bart", downsample=SparseSample(2)), batch()
    context = attach_rows(model)
    assert context is not None
    model.train()
    context.set(3, torch.arange(ROWS))
    whole = model(**inputs)
    context.set(3, torch.tensor([1, 3]))
    part = model(**{name: each[[1, 3]] for name, each in inputs.items()})
    torch.testing.assert_close(part, whole[[1, 3]], rtol=1e-5, atol=1e-5)
    context.set(6, torch.arange(ROWS))
    assert not torch.allclose(model(**inputs), whole, atol=1e-5)


def test_labels_are_moved_as_the_backbone_moves_them() -> None:
    labels = torch.tensor([[5, 6, 7, -100], [8, 2, -100, -100]])
    assert model_of("t5").shift(labels).tolist() == [[0, 5, 6, 7], [0, 8, 2, 0]]
    assert model_of("bart").shift(labels).tolist() == [[2, 5, 6, 7], [2, 8, 2, 1]]
    assert model_of("mbart").shift(labels).tolist() == [[7, 5, 6, 7], [2, 8, 2, 1]]  # the last word first

    from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

    sizes: Any = {"d_model": 16, "vocab_size": 40, "encoder_layers": 1, "decoder_layers": 1, "decoder_ffn_dim": 8}
    with torch.device("meta"):
        other: Any = BlenderbotForConditionalGeneration(
            BlenderbotConfig(**sizes, encoder_attention_heads=2, decoder_attention_heads=2)
        )
    model = VisionLanguageModel(other)
    assert model.shift(labels).tolist() == [[1, 5, 6, 7], [1, 8, 2, 0]]
    model.config.pad_token_id = None
    with pytest.raises(UsageError, match="lacks decoder_start_token_id or pad_token_id"):
        model.shift(labels)


def test_tuners_know_its_parts() -> None:
    model = model_of("bart", vision=Eyes())
    parts = {name: part_of(model, name) for name, _ in model.named_parameters()}
    assert {part for name, part in parts.items() if name.startswith("language_model.")} == {"language"}
    assert {part for name, part in parts.items() if name.startswith("visual_embedding.")} == {"connector"}
    assert {part for name, part in parts.items() if name.startswith("vision_tower.")} == {"vision"}


def test_what_does_not_go_together_is_refused() -> None:
    model, inputs = model_of("bart"), batch()
    labels, ids = inputs["labels"], inputs["input_ids"]
    with pytest.raises(UsageError, match="give one of them"):
        model(ids)
    with pytest.raises(UsageError, match="give one of them"):
        model(ids, labels=labels, decoder_input_ids=labels)
    with pytest.raises(UsageError, match="features or pixels, and this one has both"):
        model(**inputs, pixels=torch.zeros(ROWS, 1, 3, 8, 8))
    with pytest.raises(UsageError, match="no image encoder, and the batch has pixels"):
        model(ids, labels=labels, pixels=torch.zeros(ROWS, 1, 3, 8, 8))
    with pytest.raises(UsageError, match="32 wide, the backbone 16"):
        VisionLanguageModel(MODELS["bart"](), VisualEmbedding(FEATURES, 32))
    for own in ({"joint": JointOptions()}, {"vision": Eyes()}, {"downsample": SparseSample(2)}):
        with pytest.raises(UsageError, match="reads texts alone"):
            VisionLanguageModel(MODELS["bart"](), **own)
    seeing = model_of("bart", vision=Eyes())
    with pytest.raises(UsageError, match=r"pixels must be \[batch, pictures, 3, height, width\], found \[4, 3, 8, 8\]"):
        seeing(ids, labels=labels, pixels=torch.zeros(ROWS, 3, 8, 8))
    with pytest.raises(UsageError, match=r"visual_mask must be \[4, 1\] beside such pixels, found \[4, 2\]"):
        seeing(ids, labels=labels, pixels=torch.zeros(ROWS, 1, 3, 8, 8), visual_mask=torch.ones(ROWS, 2))
    flat = model_of("bart", vision=nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, FEATURES)))
    with pytest.raises(UsageError, match=r"must give \[pictures, rows, width\], found \[4, 6\]"):
        flat(ids, labels=labels, pixels=torch.zeros(ROWS, 1, 3, 8, 8))
    model.config.decoder_start_token_id = None
    with pytest.raises(UsageError, match="cannot begin to write"):
        model(**inputs)


class Blinking(Eyes):
    """Drops some of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = 0.4

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(pixels), self.dropout, self.training)


@both
def test_what_is_dropped_of_a_picture_belongs_to_its_example(backbone: str) -> None:
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask", "labels")}
    torch.manual_seed(3)
    inputs["pixels"] = torch.rand(ROWS, 2, 3, 8, 8)
    inputs["visual_mask"] = torch.tensor([[1, 0], [1, 1], [0, 0], [1, 1]])
    weights = torch.linspace(-1, 1, 40).double()

    def gradients(parts: list[list[int]]) -> Tensor:
        torch.manual_seed(7)
        eyes = Blinking()
        model = model_of(backbone, vision=eyes).double().train()
        context = attach_dropout(model)
        assert context is not None
        for part in parts:
            context.set(1, torch.tensor(part))
            given = {name: each[part] for name, each in inputs.items()}
            given["pixels"] = given["pixels"].double()
            (model(**given) * weights).sum().backward()
        assert eyes.map.weight.grad is not None
        return eyes.map.weight.grad

    whole = gradients([[0, 1, 2, 3]])
    torch.testing.assert_close(gradients([[3], [0, 2], [1]]), whole, rtol=1e-9, atol=1e-12)
