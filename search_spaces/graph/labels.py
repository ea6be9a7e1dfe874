"""Which channels must go together: union-find over labels that are written along the dimensions of tensors.

Every tensor of the network, parameters included, carries one array of labels per dimension, as long as that
dimension. Entries with equal labels (after all unions) can only be removed together. Label 0 marks what can never
be removed, such as a batch or spatial position.
"""

from __future__ import annotations

import numpy as np

FIXED = 0

Labelled = tuple[np.ndarray, ...]
"""A tensor as the analysis sees it: one int64 array of labels for each dimension, [size of the dimension]."""


class Labels:
    """The labels made so far, their unions, and for those that must stay, the reason."""

    def __init__(self) -> None:
        self._parent: list[int] = [FIXED]
        self._reason: dict[int, str] = {FIXED: "not a channel of any layer"}
        self._roots: np.ndarray | None = None  # [count], until something changes

    def copy(self) -> Labels:
        """The same labels, to which further ties can be made."""
        other = Labels()
        other._parent, other._reason = list(self._parent), dict(self._reason)
        return other

    @property
    def count(self) -> int:
        """How many labels there are."""
        return len(self._parent)

    def fresh(self, n: int) -> np.ndarray:
        """`n` new labels, or the fixed one where there is a single position, which cannot be removed: [n]."""
        if n == 1:
            return fixed(1)
        self._roots = None
        start = len(self._parent)
        self._parent.extend(range(start, start + n))
        return np.arange(start, start + n)

    def root(self, label: int) -> int:
        """The representative of everything that must go together with `label`."""
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[label] != root:
            self._parent[label], label = root, self._parent[label]
        return root

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """`root` of each entry, with `FIXED` for everything that must stay: [n]."""
        if self._roots is None:
            found = [self.root(label) for label in range(self.count)]
            self._roots = np.array([FIXED if root in self._reason else root for root in found], dtype=np.int64)
        roots: np.ndarray = self._roots[labels]
        return roots

    def reason(self, label: int) -> str | None:
        """Why `label` must stay, or None if it may be removed."""
        return self._reason.get(self.root(label))

    def fix(self, labels: np.ndarray, why: str) -> None:
        """Everything in `labels` must stay; the first reason given is the one kept."""
        self._roots = None
        for label in np.unique(labels):
            self._reason.setdefault(self.root(int(label)), why)

    def tie(self, a: np.ndarray, b: np.ndarray, why: str) -> None:
        """Entry i of `a` and entry i of `b` ([n] each) can only be removed together; `why` names the place."""
        self._roots = None
        for x, y in np.unique(np.stack([a, b], axis=1), axis=0):
            if x == FIXED or y == FIXED:
                if x != y:
                    self.fix(np.array([max(x, y)]), f"{why}, with what cannot change")
                continue
            x, y = self.root(int(x)), self.root(int(y))
            if x != y:
                self._parent[y] = x
                if y in self._reason:
                    self._reason.setdefault(x, self._reason[y])

    def tie_together(self, labels: np.ndarray, why: str) -> None:
        """All entries can only be removed together."""
        if labels.size:
            self.tie(np.broadcast_to(labels.flat[0], labels.size), labels.ravel(), why)


def fixed(n: int) -> np.ndarray:
    """`n` positions that can never be removed: [n]."""
    return np.zeros(n, dtype=np.int64)


def movable(labels: np.ndarray) -> bool:
    """Whether any position carries a label."""
    return bool(np.any(labels != FIXED))
