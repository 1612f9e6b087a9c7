"""Image encoders: the ResNets of CLIP, and the vision models of the transformers library."""

from quincunx.recipes.vision_language.model.vision.build import build_encoder
from quincunx.recipes.vision_language.model.vision.encoder import ImageEncoder

__all__ = ["ImageEncoder", "build_encoder"]
