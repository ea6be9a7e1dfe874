"""Where the processes of a job leave what they say and make until it is fetched.

Alone in a module that imports next to nothing: as an actor of Ray's it has a process of its own, which imports it.
"""

from __future__ import annotations

from automl.errors import AutomlError


class Post:
    """Lines that were said, the first error, and what was made, in bytes, which are as heavy as no network is."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.found: bytes | None = None
        self.error: AutomlError | None = None

    def say(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)

    def deliver(self, found: bytes) -> None:
        """Keep what was made."""
        self.found = found

    def fail(self, error: AutomlError) -> None:
        """Keep the first error."""
        self.error = self.error or error

    def said(self) -> list[str]:
        """The lines since the last call."""
        lines, self.lines = self.lines, []
        return lines

    def result(self) -> tuple[bytes | None, AutomlError | None]:
        """What was made, and the first error."""
        return self.found, self.error
