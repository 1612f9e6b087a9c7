"""Stored features of pictures: one Arrow file, mapped into memory, whose rows are found by a picture's id."""

from quincunx.recipes.vision_language.data.features.form import DTYPES, Header
from quincunx.recipes.vision_language.data.features.reading import Features
from quincunx.recipes.vision_language.data.features.writing import FeatureWriter, feature_writer, write_features

__all__ = ["DTYPES", "FeatureWriter", "Features", "Header", "feature_writer", "write_features"]
