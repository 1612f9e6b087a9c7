"""The model of a config without weights and without its texts: what its shapes are, before anything is downloaded."""

from __future__ import annotations

from typing import Any

from quincunx.nn.pretrained.placeholder import placeholder_tokenizer
from quincunx.recipes.vision_language import assemble
from quincunx.recipes.vision_language.kinds import pretrains
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from quincunx.recipes.vision_language.pretraining.measured import OF_REGIONS
from quincunx.recipes.vision_language.pretraining.regions import RegionWords

CLASSES, ATTRIBUTES = 1600, 400
"""Of regions, where the collection has not been read: those of the usual detector (Anderson et al., CVPR 2018)."""
ANSWERS = 3129
"""Of a classifier, where the collection has not been read: as many as are usual for VQA v2."""


def unread(config: Any) -> tuple[VisionLanguageModel, assemble.Language, list[str]]:
    """Return the model of a decided config, its backbone, and what was taken for granted.

    To be called on the meta device.
    """
    notes: list[str] = []
    chosen = config.model
    if chosen.path is None and chosen.tokenizer is None:
        tokenizer = placeholder_tokenizer(chosen.build.vocab_size)
        notes.append(f"a tokenizer of {chosen.build.vocab_size:,} entries, the most that its training may give")
        language = assemble.with_visual_tokens(config, assemble.built(config, tokenizer), tokenizer)
    else:
        language = assemble.language_of(config, tuple)
    if chosen.classifier:
        notes.append(f"a classifier of {ANSWERS:,} answers: how many there are is known once the collection is read")
    words = None
    if pretrains(config) and any(loss in OF_REGIONS for loss in config.pretraining.losses):
        notes.append(
            f"{CLASSES:,} classes and {ATTRIBUTES:,} attributes of regions, as Visual Genome's detector has them"
        )
        words = RegionWords(tuple(map(str, range(CLASSES))), tuple(map(str, range(ATTRIBUTES))))
    model, said = assemble.make_model(config, language, assemble.Asked(words=words, size=ANSWERS))
    return model, language, [*notes, *said]
