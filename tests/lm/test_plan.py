"""The order of rows, the learning rate, and how a step's rows are dealt out to ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lm.plan import (
    TrainingRows,
    TrainingSettings,
    learning_rate,
    micro_batches,
    rows_of_step,
)


def settings(**changes):
    usual = {
        "mean_response_tokens": 1.0,
        "steps": 12,
        "n_draws": 46,
        "batch_size": 4,
        "learning_rate": 1.0,
    }
    return TrainingSettings(**(usual | changes))


def test_every_epoch_shows_every_row_once_in_an_order_of_its_own():
    plan = settings(steps=8, n_draws=30, batch_size=4)
    drawn = np.concatenate([rows_of_step(step, 10, plan) for step in range(8)])
    assert len(drawn) == 30
    epochs = drawn.reshape(3, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_the_seed_decides_the_order():
    orders = [rows_of_step(0, 100, settings(seed=seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_learning_rate_warms_up_and_falls_as_a_cosine():
    plan = settings(steps=10, learning_rate=1.0, warmup_fraction=0.2)
    rates = [learning_rate(step, plan) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)  # half of the eight steps after the warm-up
    assert rates[9] == pytest.approx(0.5 * (1 + np.cos(np.pi * 7 / 8)))


@given(
    st.lists(st.integers(2, 200), min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 400)
)
def test_ranks_together_have_every_row_once_and_equally_many_bins(lengths, ranks, budget):
    rows = TrainingRows(
        token_ids=np.zeros(sum(lengths), dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        n_context=np.ones(len(lengths), dtype=np.int32),
        weights=np.ones(len(lengths)),
    )
    bins = micro_batches(rows, np.arange(len(lengths)), budget, 1e-4, ranks)
    assert len({len(b) for b in bins}) == 1
    members = np.concatenate([rows for rank in bins for rows in rank])
    assert sorted(members.tolist()) == list(range(len(lengths)))
