"""Budgets by name, `preset: cubesat`: limits that go together for a kind of device, each with what it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from automl.config.budget import parse_budget, written_as
from automl.errors import ConfigError
from automl.util.names import nearest

KEY = "preset"


@dataclass(frozen=True)
class Preset:
    """Limits that hold together. None is on latency, which is measured where the search runs and not on the device."""

    about: str
    limits: Mapping[str, str]
    """Limit, as a budget has it -> its source, or the reason for it."""


BUDGET_PRESETS: Mapping[str, Preset] = {
    "cubesat": Preset(
        "a small satellite that is sent its network by radio",
        {
            "size <= 200 KB": "at 9,600 bit/s, usual on UHF, an upload of 167 s: a third of a pass of 8 minutes",
            "peak_memory <= 64 MB": "our choice: an eighth of a computer with 512 MB, for one tile",
        },
    ),
    "microcontroller": Preset(
        "a Cortex-M7 such as the STM32F746, the device of MCUNet (Lin et al. 2020, arXiv 2007.10319)",
        {
            "size <= 1 MB": "its flash",
            "peak_memory <= 320 KB": "its SRAM; activations count in float32 and take a quarter of that in 8 bits",
        },
    ),
    "phone": Preset(
        "an app",
        {
            "macs <= 600M": "the mobile setting of Zoph et al. 2018 (arXiv 1707.07012), less than 600 M for one image",
            "size <= 20 MB": "our choice: half as much again as MobileNetV2, 14 MB in float32",
            "peak_memory <= 64 MB": "our choice: what an app may take without being noticed",
        },
    ),
}
"""Name -> preset."""


def with_presets(budget: Any, error: Callable[[str], ConfigError]) -> Any:
    """A budget as it is written, text, mapping or a list of both, with the limits of a preset in its place.

    What is neither stays as it is, for the reader to refuse. `error`: makes the error for a preset that there is not,
    or that limits what another term limits too.
    """
    items = budget if isinstance(budget, list | tuple) else [budget]
    limits: list[Any] = []
    taken: dict[str, str] = {}
    for item in items:
        name = _named(item, error)
        if name is None:
            limits.append(item)
            continue
        limits += BUDGET_PRESETS[name].limits
        taken |= dict.fromkeys((_metric(limit) for limit in BUDGET_PRESETS[name].limits), name)
    if not taken:
        return budget
    _require_once([limit for limit in limits if isinstance(limit, str)], taken, error)
    return limits


def described(name: str) -> list[str]:
    """A preset in lines: what it is for, and each limit with its source or reason."""
    preset = BUDGET_PRESETS[name]
    width = max(map(len, preset.limits))
    return [f"{KEY}: {name}, {preset.about}", *(f"  {limit:<{width}}  {why}" for limit, why in preset.limits.items())]


def _named(item: Any, error: Callable[[str], ConfigError]) -> str | None:
    """The preset that an item of a budget names, `preset: NAME` as text or mapping; None: it is a limit."""
    if isinstance(item, Mapping):
        if set(item) != {KEY}:
            raise error(f"expected limits, or `{KEY}: NAME`, got a mapping of {', '.join(map(str, item)) or 'nothing'}")
        name = item[KEY]
    elif isinstance(item, str) and item.partition(":")[0].strip() == KEY:
        name = item.partition(":")[2].strip()
    else:
        return None
    if not isinstance(name, str) or name not in BUDGET_PRESETS:
        raise error(f"no preset {name!r:.80}{nearest(str(name), BUDGET_PRESETS)}")
    return name


def _require_once(limits: list[str], taken: Mapping[str, str], error: Callable[[str], ConfigError]) -> None:
    """Raise where a preset limits what another term limits too."""
    seen: dict[str, str] = {}
    for text in (part.strip() for limit in limits for part in limit.split(",")):
        metric = _metric(text)
        if metric in seen and metric in taken:
            name = taken[metric]
            whole = ", ".join(BUDGET_PRESETS[name].limits)
            raise error(
                f"the preset {name} limits {written_as(metric)} already: got `{seen[metric]}` and `{text}`. Leave one "
                f"out, or write the limits that you want in place of the preset's: {whole}"
            )
        seen[metric] = text


def _metric(limit: str) -> str:
    return parse_budget(limit).terms[0].metric
