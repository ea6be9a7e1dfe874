"""How much more rounding costs a layer once it is factorised, which curves of single knobs do not know.

A number in a factor stands for a row or column of the layer, and all numbers of the others multiply its error. Rounded
to the same format, the factors of MobileNetV2's layers lose 2 to 12 times what the whole layers lose, each layer about
the same at all ranks from an eighth of break-even on and in all formats of 1 to 8 bits. So one rank and one format are
measured: that of fewest bits, whose errors are no accident of single weights.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from automl.fit.base import Fitter
from automl.fit.code import CodeFitter
from automl.fit.rank import RankFitter
from automl.fit.statistics import Statistics
from search_spaces.codecs.number_formats import BY_LEVEL


def dearer_when_factorised(fitters: Collection[Fitter[Any]], statistics: Statistics) -> dict[tuple[str, str], float]:
    """The knobs of a layer's rank and of its number format -> by how much rounding is dearer below the whole rank."""
    rank = next((fitter for fitter in fitters if isinstance(fitter, RankFitter)), None)
    code = next((fitter for fitter in fitters if isinstance(fitter, CodeFitter)), None)
    if rank is None or code is None:
        return {}
    found = {}
    network, moments = rank.operator.network, rank.whole(statistics)
    formats = {knob.site: knob for knob in code.operator.knobs}
    for knob, name, parts, known in rank.factors(statistics):
        coded = formats.get(knob.site)
        if coded is None:
            continue
        form = BY_LEVEL[coded.levels[0]]
        whole = code.loss(network.get_parameter(f"{name}.weight").detach(), form, moments, name)
        lost = sum(code.loss(part.float(), form, known, str(i)) for i, part in enumerate(parts))
        if whole > 0:
            found[knob.name, coded.name] = max(lost / whole, 1.0)
    return found
