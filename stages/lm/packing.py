"""Variable-length rows into bins of a token budget, and work into equal shares.

Plain numpy: which rows go together is decided here, before a tensor exists.
"""

from bisect import bisect_left, insort

import numpy as np


def pack(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Pack rows into bins of at most `budget` tokens by best fit, longest first.

    Parameters
    ----------
    lengths : int array [N]
        Tokens of each row, at least 1.
    budget : int
        Tokens a bin may hold. A row longer than that gets a bin of its own.

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
    """Divide items into shares of nearly equal cost: dearest first, each to the poorest share.

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
    if n_shares == 1:
        return [np.arange(len(costs))]
    shares: list[list[int]] = [[] for _ in range(n_shares)]
    load = [(0.0, share) for share in range(n_shares)]
    for item in np.argsort(-costs, kind="stable"):
        total, share = load.pop(0)
        shares[share].append(int(item))
        insort(load, (total + float(costs[item]), share))
    return [np.array(sorted(items), dtype=np.int64) for items in shares]


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
