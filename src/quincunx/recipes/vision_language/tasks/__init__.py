"""The tasks by name: what each asks, and how what is said is measured."""

from __future__ import annotations

from collections.abc import Mapping

from quincunx.recipes.vision_language.tasks.asking import Answered, Asked, Task, Wording
from quincunx.recipes.vision_language.tasks.captions import Caption, Translation
from quincunx.recipes.vision_language.tasks.choices import Vcr
from quincunx.recipes.vision_language.tasks.classes import Classification
from quincunx.recipes.vision_language.tasks.expressions import Refcoco
from quincunx.recipes.vision_language.tasks.questions import Gqa, Vqa
from quincunx.recipes.vision_language.tasks.statements import Nlvr

TASKS: Mapping[str, type[Task]] = {
    "vqa": Vqa,
    "gqa": Gqa,
    "nlvr": Nlvr,
    "refcoco": Refcoco,
    "vcr": Vcr,
    "caption": Caption,
    "mmt": Translation,
    "cls": Classification,
}
"""Task -> its class."""

__all__ = ["TASKS", "Answered", "Asked", "Task", "Wording"]
