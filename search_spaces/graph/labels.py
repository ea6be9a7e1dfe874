"""Which channels must go together: union-find over labels that are written along the dimensions of tensors.

Every tensor of the network, parameters included, carries one array of labels per dimension, as long as that
dimension. Entries with equal labels (after all unions) can only be removed together. Label 0 marks what can never
be removed, such as a batch or spatial position.
"""

from __future__ import annotations

import numpy as np

FIXED = 0
SPLIT = "is split in more than one way"
"""Why channels must stay that are laid out in two grids."""

Labelled = tuple[np.ndarray, ...]
"""A tensor as the analysis sees it: one int64 array of labels for each dimension, [size of the dimension]."""


class Labels:
    """The labels made so far, their unions, and for those that must stay, the reason.

    A label may stand for a pair of others, and then goes when either of them does: so it is with the positions of a
    dimension that holds the heads of an attention and the width of each.
    """

    def __init__(self) -> None:
        self._parent: list[int] = [FIXED]
        self._reason: dict[int, str] = {FIXED: "not a channel of any layer"}
        self._pairs: dict[int, tuple[int, int]] = {}
        """Root that stands for a pair -> the two labels."""
        self._pair_of: dict[tuple[int, int], int] = {}
        """Two labels -> the label that stands for them."""
        self._loose: set[int] = set()
        """Copies of one value, as long as they are tied to nothing."""
        self._parts: np.ndarray | None = None  # [count, 2], until something changes

    def copy(self) -> Labels:
        """The same labels, to which further ties can be made."""
        other = Labels()
        other._parent, other._reason = list(self._parent), dict(self._reason)
        other._pairs, other._pair_of = dict(self._pairs), dict(self._pair_of)
        other._loose = set(self._loose)
        return other

    @property
    def count(self) -> int:
        """How many labels there are."""
        return len(self._parent)

    def fresh(self, n: int) -> np.ndarray:
        """`n` new labels, or the fixed one where there is a single position, which cannot be removed: [n]."""
        if n == 1:
            return fixed(1)
        self._parts = None
        start = len(self._parent)
        self._parent.extend(range(start, start + n))
        return np.arange(start, start + n)

    def copies(self, n: int) -> np.ndarray:
        """`n` new labels of copies of one value, which can go with whatever they are combined with: [n]."""
        made = self.fresh(n)
        self._loose.update(made[made != FIXED].tolist())
        return made

    def loose(self, labels: np.ndarray) -> bool:
        """Whether these are copies of one value that nothing depends on yet."""
        return all(int(label) in self._loose for label in labels)

    def product(self, outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
        """Labels of the positions in a grid, which go with either of their places in it: [n_outer, n_inner]."""
        out = np.empty((len(outer), len(inner)), dtype=np.int64)
        for i, a in enumerate(outer.tolist()):
            for j, b in enumerate(inner.tolist()):
                out[i, j] = self._both(a, b) if a != FIXED and b != FIXED else max(a, b)
        return out

    def _both(self, a: int, b: int) -> int:
        if (a, b) not in self._pair_of:
            self._parts = None
            label = self._pair_of[a, b] = len(self._parent)
            self._parent.append(label)
            self._pairs[label] = (a, b)
            self._loose -= {a, b}
        return self._pair_of[a, b]

    def pair(self, label: int) -> tuple[int, int] | None:
        """The roots of the two labels that `label` stands for, if it stands for two."""
        both = self._pairs.get(self.root(label))
        return None if both is None else (self.root(both[0]), self.root(both[1]))

    def root(self, label: int) -> int:
        """The representative of everything that must go together with `label`."""
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[label] != root:
            self._parent[label], label = root, self._parent[label]
        return root

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """`root` of each entry, with `FIXED` for everything that must stay: [n]. Of a pair it is that of the first."""
        return self.parts(labels)[..., 0]

    def parts(self, labels: np.ndarray) -> np.ndarray:
        """The roots with any of which each entry goes, `FIXED` where there is no second, or none at all: [n, 2]."""
        if self._parts is None:
            self._settle()
            found = [self.root(label) for label in range(self.count)]
            first = np.array([FIXED if root in self._reason else root for root in found], dtype=np.int64)
            second = np.zeros_like(first)
            for label, root in enumerate(found):
                if first[label] and root in self._pairs:
                    a, b = (self.root(part) for part in self._pairs[root])
                    both = [part for part in (a, b) if part not in self._reason]
                    first[label], second[label] = (*both, FIXED, FIXED)[:2]
            self._parts = np.stack([first, second], axis=1)
        parts: np.ndarray = self._parts[labels]
        return parts

    def _settle(self) -> None:
        """Fix what a pair that must stay stands for, and pairs of pairs, of which nothing is known."""
        changed = True
        while changed:
            changed = False
            for root, both in list(self._pairs.items()):
                parts = [self.root(part) for part in both]
                nested = any(part in self._pairs for part in parts)
                if (root in self._reason or nested) and not all(part in self._reason for part in parts):
                    why = self._reason.get(root, SPLIT)
                    for part in parts:
                        self._reason.setdefault(part, why)
                    changed = True

    def grid(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """A dimension of pairs as a grid: the labels along its two sides, as often as they stand there.

        None where it is not a whole grid, so that its size is not a product of two.
        """
        parts = self.parts(labels)
        for one, other in ((0, 1), (1, 0)):
            ordered = parts[np.lexsort((parts[:, other], parts[:, one]))]
            side = np.unique(ordered[:, one])
            if FIXED in side or len(labels) % len(side):
                continue
            rows = ordered.reshape(len(side), -1, 2)
            same_side = (rows[:, :, one] == side[:, None]).all()
            if same_side and (rows[:, :, other] == rows[0, :, other]).all():
                return side, rows[0, :, other]
        return None

    def is_grid(self, labels: np.ndarray) -> bool:
        """Whether any position of a dimension stands for a pair."""
        return bool(self.parts(labels)[:, 1].any())

    def reason(self, label: int) -> str | None:
        """Why `label` must stay, or None if it may be removed."""
        root = self.root(label)
        if root in self._reason or root not in self._pairs:
            return self._reason.get(root)
        reasons = [self._reason.get(self.root(part)) for part in self._pairs[root]]
        return reasons[0] if all(reasons) else None

    def fix(self, labels: np.ndarray, why: str) -> None:
        """Everything in `labels` must stay; the first reason given is the one kept."""
        self._parts = None
        for label in np.unique(labels):
            self._reason.setdefault(self.root(int(label)), why)

    def tie(self, a: np.ndarray, b: np.ndarray, why: str) -> None:
        """Entry i of `a` and entry i of `b` ([n] each) can only be removed together; `why` names the place."""
        self._parts = None
        for x, y in np.unique(np.stack([a, b], axis=1), axis=0).tolist():
            self._loose -= {x, y}
            if x == FIXED or y == FIXED:
                if x != y:
                    self.fix(np.array([max(x, y)]), f"{why}, with what cannot change")
                continue
            self._unite(self.root(x), self.root(y))

    def _unite(self, x: int, y: int) -> None:
        """Two roots become one; pairs become one by both their parts."""
        if x == y:
            return
        self._parent[y] = x
        if y in self._reason:
            self._reason.setdefault(x, self._reason[y])
        other = self._pairs.pop(y, None)
        if other is not None and (mine := self._pairs.setdefault(x, other)) is not other:
            for part, same in zip(mine, other, strict=True):
                self._unite(self.root(part), self.root(same))

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
