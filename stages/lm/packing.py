"""Variable-length rows into bins of a token budget, and work into equal shares.

Plain numpy: which rows go together is decided here, before a tensor exists.
"""

from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush

import numpy as np


def pack(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Pack rows into bins of at most `budget` tokens by best fit, longest first.

    Parameters
    ----------
    lengths : int array [N]
        Tokens of each row, at least 1.
    budget : int
        Tokens a bin may hold. A longer row gets a separate bin.

    Returns
    -------
    list of int arrays
        Row indices of each bin, longest row first; every row is in exactly one bin.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, bin), sorted
    for row in np.argsort(-lengths, kind="stable"):
        length = int(lengths[row])
        place = bisect_left(room, (length, -1))
        if place < len(room):
            free, bin_ = room.pop(place)
            bins[bin_].append(int(row))
        else:
            free, bin_ = budget, len(bins)
            bins.append([int(row)])
        if free - length > 0:
            insort(room, (free - length, bin_))
    return [np.array(rows) for rows in bins]


def balance(costs: np.ndarray, n_shares: int) -> list[np.ndarray]:
    """Divide items into shares of nearly equal cost, by the largest differencing method.

    Karmarkar and Karp, 1982: the two most uneven partial divisions are joined, the dear shares of
    one with the cheap ones of the other, until one division of all items is left.

    Parameters
    ----------
    costs : float array [N]
        Cost of each item.
    n_shares : int
        Number of shares (ranks).

    Returns
    -------
    list of `n_shares` int arrays
        Item indices of each share, ascending; a share may be empty.
    """
    empty: list[tuple[float, list[int]]] = [(0.0, [])] * n_shares
    heap = [
        (-float(cost), item, [(float(cost), [item]), *empty[1:]])  # shares from dear to cheap
        for item, cost in enumerate(costs)
    ] or [(0.0, 0, empty)]
    heapify(heap)
    while len(heap) > 1:
        _, item, one = heappop(heap)
        _, _, other = heappop(heap)
        joined = [(x + y, p + q) for (x, p), (y, q) in zip(one, reversed(other), strict=True)]
        joined.sort(key=lambda share: -share[0])
        heappush(heap, (joined[-1][0] - joined[0][0], item, joined))
    return [np.array(sorted(items), dtype=np.int64) for _, items in heap[0][2]]


def row_costs(lengths: np.ndarray, attention_per_token: float) -> np.ndarray:
    """Work of each row in units of one token's matrix products: `n + a n²`.

    Parameters
    ----------
    lengths : int array [N]
        Tokens of each row.
    attention_per_token : float
        `a`: attention's share of the work per token and token of context. A causal layer computes
        `2 n² heads·head_dim` multiply-adds' worth of operations forward where the matrix products
        compute `2 n · parameters`; so `a` is layers x heads x head_dim / parameters.
    """
    n = lengths.astype(np.float64)
    return n + attention_per_token * n**2
