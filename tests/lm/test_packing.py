"""Packing puts every row into one bin, fills bins, and shares work out evenly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lm.packing import balance, pack, row_costs

lengths_of_rows = st.lists(st.integers(1, 50), min_size=1, max_size=60).map(np.array)


def long_tailed(n: int) -> np.ndarray:
    """Trace lengths as reasoning models write them: lognormal, mean about 5,000, cut at 32,000."""
    drawn = np.random.default_rng(0).lognormal(np.log(5000) - 0.5 * 0.8**2, 0.8, n)
    return np.clip(drawn, 1, 32000).astype(np.int64)


def test_best_fit_takes_the_fullest_bin_that_still_has_room():
    # 6 opens a bin (4 free), 5 a second one (5 free); 4 fits both and goes where it leaves least.
    assert [b.tolist() for b in pack(np.array([6, 5, 4, 5]), 10)] == [[0, 2], [1, 3]]


@given(lengths_of_rows, st.integers(1, 60))
def test_every_row_is_in_exactly_one_bin_and_no_bin_overflows(lengths, budget):
    bins = pack(lengths, budget)
    assert sorted(np.concatenate(bins).tolist()) == list(range(len(lengths)))
    for rows in bins:
        assert lengths[rows].sum() <= budget or len(rows) == 1


def test_bins_are_99_percent_full_on_long_tailed_lengths():
    lengths = long_tailed(5000)
    assert lengths.sum() / (len(pack(lengths, 32768)) * 32768) >= 0.99


@given(lengths_of_rows, st.integers(1, 9))
def test_every_item_is_in_exactly_one_share(costs, n_shares):
    shares = balance(costs, n_shares)
    assert len(shares) == n_shares
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(costs)))


@pytest.mark.parametrize("n_ranks", [8, 16])
@pytest.mark.parametrize("n_rows", [96, 2000, 20000])  # 96: one optimizer step
def test_ranks_get_equal_work_on_long_tailed_lengths(n_ranks, n_rows):
    costs = row_costs(long_tailed(n_rows), 1 / 54000)  # Qwen3-8B
    work = np.array([costs[share].sum() for share in balance(costs, n_ranks)])
    assert work.max() / work.mean() <= 1.02  # the bar of the project's performance goals


def test_cost_counts_attention_by_the_square():
    assert row_costs(np.array([10, 20]), 0.1).tolist() == [20.0, 60.0]
