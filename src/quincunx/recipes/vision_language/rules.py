"""Rules between the settings of the `vision_language` recipe, by theme; docs/vision_language.md sorts them."""

from __future__ import annotations

from quincunx.config.schema import Rule
from quincunx.config.sections.rules import RULES as SHARED_RULES
from quincunx.recipes.vision_language.rules_adapt import ADAPT_RULES
from quincunx.recipes.vision_language.rules_pictures import PICTURE_RULES
from quincunx.recipes.vision_language.rules_training import TRAINING_RULES

RULES: tuple[Rule, ...] = (*TRAINING_RULES, *PICTURE_RULES, *ADAPT_RULES, *SHARED_RULES)
