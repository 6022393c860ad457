"""Strategies: what a phase trains and how, one file a strategy; and the plan of a run's phases."""

from collections.abc import Callable

from kerasft.strategies.adapter import adapter
from kerasft.strategies.bias import bias
from kerasft.strategies.full import full
from kerasft.strategies.gradual import gradual
from kerasft.strategies.head import head
from kerasft.strategies.lora import lora
from kerasft.strategies.norm import norm
from kerasft.strategies.phase import Phase
from kerasft.strategies.quantised import quantised
from kerasft.strategies.surgical import surgical
from kerasft.strategies.top import top

__all__ = ["STRATEGIES", "Phase"]
__all__ += ["adapter", "bias", "full", "gradual", "head", "lora", "norm", "quantised", "surgical", "top"]

# The names that --phases knows. Each strategy is a function that gives one Phase or a tuple of them.
STRATEGIES: dict[str, Callable[..., Phase | tuple[Phase, ...]]] = {
    "adapter": adapter,
    "all": full,
    "bias": bias,
    "gradual": gradual,
    "head": head,
    "lora": lora,
    "norm": norm,
    "quantised": quantised,
    "surgical": surgical,
    "top": top,
}
