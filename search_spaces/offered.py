"""What installed packages bring beside ours: agents, backends, formats and more, by entry points of a group.

`name = "module:object"` in the group gives an object that name for all who have the package. Nothing of a package is
imported before somebody asks for the name, so that one that is broken breaks no other.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offered(Generic[T]):
    """The things of one kind that packages bring."""

    group: str
    """The group of their entry points: `automl.agents` or another."""
    expected: str
    """What each must be, for an error."""
    fits: Callable[[str, Any], bool]
    """Whether an object that is offered by that name is one."""
    ours: Callable[[], Collection[str]]
    """The names of our own, which no package can take."""
    error: type[ValueError]
    """Raised for one that is broken."""

    def names(self) -> list[str]:
        """Their names, whether or not what they name can be loaded."""
        return offered_names(self.group, self.ours())

    def load(self, name: str) -> T:
        """What a package brings by this name. Raises the group's error, which names the package, if it is broken."""
        point, *others = _points(self.group, tuple(sys.path))[name]
        if others:
            raise self.error(
                f"{name!r} of the group {self.group} is brought by {' and by '.join(map(_package, (point, *others)))}: "
                f"uninstall all but one"
            )
        try:
            found: T = point.load()
        except Exception as error:  # another package's module raises whatever it likes
            raise self.error(
                f"{_package(point)} brings {name!r} of the group {self.group}, and cannot be loaded: "
                f"{type(error).__name__}: {error}. Mend it or uninstall it"
            ) from error
        if not self.fits(name, found):
            raise self.error(
                f"{_package(point)} brings {name!r} of the group {self.group}: expected {self.expected}, got "
                f"{found!r:.80}. Mend it or uninstall it"
            )
        return found

    def sound(self) -> dict[str, T]:
        """Name -> each that can be loaded. Of one that is broken a line is logged, once."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.load(name)
            except self.error as error:
                _tell(str(error))
        return found


def offered_names(group: str, ours: Collection[str]) -> list[str]:
    """The names that packages give in a group; none is one of `ours`. Nothing of them is imported."""
    return [name for name in _points(group, tuple(sys.path)) if name not in ours]


@cache
def _points(group: str, path: tuple[str, ...]) -> Mapping[str, Sequence[EntryPoint]]:
    """Name -> the entry points of a group that have it, in what is installed on `path`, which is `sys.path`."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found


def _package(point: EntryPoint) -> str:
    """The package that brings an entry point, in words."""
    return f"the package {point.dist.name} {point.dist.version}" if point.dist is not None else "a package"


@cache
def _tell(message: str) -> None:
    logger.warning(message)
