"""Which part of a pretrained model is trained, and the small parts that are put into it for that."""

from quincunx.tuners.attaching import Attached, attach, check_peft

__all__ = ["Attached", "attach", "check_peft"]
