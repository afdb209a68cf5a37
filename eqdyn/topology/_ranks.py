"""Betti numbers of a small flag complex from ranks of its coboundary matrices over Z/2, in plain Python."""

from __future__ import annotations

from eqdyn.topology._fold import bits

MOST = 6000  # simplices of one dimension; beyond, ripser is faster


def betti_by_ranks(vertices: list[int], rows: list[int], max_dim: int) -> tuple[int, ...] | None:
    """Betti numbers b_0 ... b_max_dim, or None if some dimension has more than `MOST` simplices.

    Args:
        vertices: those of the graph.
        rows: open neighbourhoods by vertex, as bits.
        max_dim: highest degree.
    """
    # a simplex is its vertices in order, with the vertices that see all of them
    simplices = [(1 << v, rows[v]) for v in vertices]
    pivots: set[int] = set()
    rank_below = 0
    found = []
    for _ in range(max_dim + 1):
        larger = [(simplex | 1 << w, seen & rows[w]) for simplex, seen in simplices for w in bits(_beyond(seen, simplex))]
        if len(larger) > MOST:
            return None
        place = {simplex: k for k, (simplex, _) in enumerate(larger)}
        columns: dict[int, int] = {}
        for k, (simplex, seen) in enumerate(simplices):
            if k in pivots:  # its coboundary is that of smaller ones
                continue
            column = 0
            for w in bits(seen):
                column ^= 1 << place[simplex | 1 << w]
            while column:
                pivot = column.bit_length() - 1
                if pivot not in columns:
                    columns[pivot] = column
                    break
                column ^= columns[pivot]
        found.append(len(simplices) - len(columns) - rank_below)
        rank_below, simplices, pivots = len(columns), larger, set(columns)
    return tuple(found)


def _beyond(seen: int, simplex: int) -> int:
    """Those that come after the last vertex of a simplex."""
    last = simplex.bit_length()
    return seen >> last << last
