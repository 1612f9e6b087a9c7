"""The methods of this package that stand for themselves, by name; `methods.py` adds the one that holds several."""

from __future__ import annotations

from collections.abc import Mapping

from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place as place_bottleneck
from quincunx.tuners.compacter.config import CompacterConfig
from quincunx.tuners.compacter.model import place as place_compacter
from quincunx.tuners.convolution.config import ConvolutionConfig
from quincunx.tuners.convolution.model import place as place_convolution
from quincunx.tuners.head.config import HeadConfig
from quincunx.tuners.head.model import place as place_head
from quincunx.tuners.hyperformer.config import HyperformerConfig
from quincunx.tuners.hyperformer.model import place as place_hyperformer
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.model import place as place_ladder
from quincunx.tuners.low_rank.config import LowRankConfig
from quincunx.tuners.low_rank.model import place as place_low_rank
from quincunx.tuners.method import Method
from quincunx.tuners.prefix.config import PrefixConfig
from quincunx.tuners.prefix.model import place as place_prefix
from quincunx.tuners.prompts.config import PromptsConfig
from quincunx.tuners.prompts.model import place as place_prompts
from quincunx.tuners.task_lora.config import TaskLoraConfig
from quincunx.tuners.task_lora.model import place as place_task_lora
from quincunx.tuners.trainable import BitFitConfig, NormsConfig, place_bitfit, place_norms

SINGLE: Mapping[str, Method] = {
    "bottleneck": Method(BottleneckConfig, place_bottleneck),
    "compacter": Method(CompacterConfig, place_compacter, shares=True),
    "low_rank": Method(LowRankConfig, place_low_rank),
    "task_lora": Method(TaskLoraConfig, place_task_lora),
    "prefix": Method(PrefixConfig, place_prefix, shares=True),
    "prompts": Method(PromptsConfig, place_prompts),
    "hyperformer": Method(HyperformerConfig, place_hyperformer, shares=True),
    "convolution": Method(ConvolutionConfig, place_convolution),
    "head": Method(HeadConfig, place_head),
    "ladder": Method(LadderConfig, place_ladder),
    "bitfit": Method(BitFitConfig, place_bitfit),
    "norms": Method(NormsConfig, place_norms),
}
"""Method -> its options and how it goes into a model."""
