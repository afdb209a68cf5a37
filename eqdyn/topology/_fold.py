"""Smaller graphs of the same homotopy type, in plain Python: rows are big integers.

The flag complex keeps its homotopy type when a vertex or an edge is removed whose link is contractible. A link that folds down
to a point, by removing dominated vertices one after another, is. Failing the test only leaves more behind, so every graph on the
way is a correct one, and the work may be stopped anywhere.
"""

from __future__ import annotations

import numpy as np

WORK = 1_000_000  # intersections of rows before the rest is handed over; some 0.3 s for a thousand vertices


def bits(row: int) -> list[int]:
    """The places of the ones."""
    if row.bit_count() > 12:
        packed = np.frombuffer(row.to_bytes((row.bit_length() + 7) // 8, "little"), np.uint8)
        return np.unpackbits(packed, bitorder="little").nonzero()[0].tolist()
    found = []
    while row:
        low = row & -row
        found.append(low.bit_length() - 1)
        row ^= low
    return found


def folded(packed: np.ndarray, keep: list[int] | None = None) -> tuple[list[int], list[int]]:
    """The vertices that are left, and the rows of all (open neighbourhoods, empty for those removed).

    Args:
        packed: `(n, words)` uint64.
        keep: rows of a subgraph none of whose edges, nor their vertices, may be removed.
    """
    num = len(packed)
    rows = [int.from_bytes(row.tobytes(), "little") for row in packed]
    alive = (1 << num) - 1
    if keep is None:
        # one of each set of vertices that see the same, itself included
        seen: dict[int, int] = {}
        alive = sum(1 << v for v in range(num) if seen.setdefault(rows[v] | 1 << v, v) == v)
        if len(seen) < num:
            rows = [row & alive if alive >> v & 1 else 0 for v, row in enumerate(rows)]
    work = int(WORK * max(1.0, (num / 1024) ** 1.5))
    one = _Folding(rows, alive, keep or [0] * num, work)
    one.run()
    return bits(one.alive), one.rows


class _Folding:
    def __init__(self, rows: list[int], alive: int, keep: list[int], work: int):
        self.rows, self.alive, self.keep, self.work = rows, alive, keep, work
        self.time = 1
        self.changed = [1] * len(rows)  # when the link of a vertex last changed

    def run(self) -> None:
        edges_done = 0
        while self.work > 0:
            self.vertices()
            now = self.time
            if not self.edges(edges_done):
                return
            edges_done = now

    def vertices(self) -> None:
        """Remove vertices with foldable links until none is left."""
        tested = [0] * len(self.rows)
        free = self.alive & ~sum(1 << v for v, row in enumerate(self.keep) if row)
        queue = bits(free)
        while queue:
            again = 0
            for v in queue:
                if not self.alive >> v & 1 or tested[v] >= self.changed[v]:
                    continue
                tested[v] = self.time
                link = self.rows[v]
                members = bits(link)
                if self.work <= 0:
                    return
                if not link or not self.foldable(link, members):
                    continue
                self.time += 1
                here = 1 << v
                self.alive ^= here
                self.rows[v] = 0
                for w in members:
                    self.rows[w] ^= here
                    self.changed[w] = self.time
                again |= link
            queue = bits(again & self.alive & free)

    def edges(self, since: int) -> bool:
        """Remove edges with foldable links; only those both of whose ends have changed can have become so."""
        removed = False
        for u in bits(self.alive):
            if self.changed[u] <= since:
                continue
            for v in bits(self.rows[u] >> (u + 1)):
                v += u + 1
                if self.changed[v] <= since or self.keep[u] >> v & 1:
                    continue
                link = self.rows[u] & self.rows[v]
                members = bits(link)
                if self.work <= 0:
                    return False
                if not link or not self.foldable(link, members):
                    continue
                removed = True
                self.time += 1
                self.rows[u] ^= 1 << v
                self.rows[v] ^= 1 << u
                for w in (u, v, *members):
                    self.changed[w] = self.time
        return removed

    def foldable(self, link: int, members: list[int]) -> bool:
        """Whether the graph on `link`, whose vertices are `members`, folds down to a point."""
        rows = self.rows
        while True:
            self.work -= len(members)
            if len(members) == 1:
                return True
            sees = [(rows[w] & link).bit_count() for w in members]
            most = max(sees)
            if most == len(members) - 1:
                return True
            # those that the best-connected vertex does not see first: they stand in its way
            best = members[sees.index(most)]
            near = rows[best] | 1 << best
            before = link
            for w in bits(link & ~near):
                if self.dominated(w, link):
                    link ^= 1 << w
            if not link & ~near:
                return True
            if link == before:
                for w in bits(link & near):
                    if self.dominated(w, link):
                        link ^= 1 << w
                if link == before:
                    return False
            members = bits(link)

    def dominated(self, w: int, link: int) -> bool:
        """Whether some other vertex of the link sees all that w sees there, and w."""
        rows = self.rows
        here = rows[w] & link
        common = here
        left = here
        while left and common:
            low = left & -left
            x = low.bit_length() - 1
            left ^= low
            # x itself stays: it may be the one that sees them all
            common &= rows[x] | low
            self.work -= 1
        return common != 0
