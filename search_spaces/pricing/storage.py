"""What operators ask of the file that a network is saved in."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.pricing.parts import Parts


@dataclass(frozen=True)
class Storage:
    """What operators ask of the file."""

    masked: bool = False
    """Whether weights may be zero, and stored with a bit mask."""
    coded: tuple[int, ...] = ()
    """The sites whose weights may be integers."""
    formats: tuple[NumberFormat, ...] = ()
    """The formats that these may have."""
    pruned: bool = False
    """Whether weights of such formats may be 0 that has no place among their integers."""
    quantized_inputs: tuple[int, ...] = ()
    """The sites that may read numbers of 8 bits, and have a range of them."""
    parts: Parts | None = None
    """Those that sites may have that may be factorised."""
    untouched: bool = True
    """Whether every tensor but those of the operators is still the original's, zeros included."""

    @property
    def packed(self) -> bool:
        """Whether the file is a packed one, in which each tensor has the cheapest form that holds it."""
        return self.masked or bool(self.coded)


AS_IT_IS = Storage()
