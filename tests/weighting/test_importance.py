"""Properties of importance weights that hold for any traces."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.weighting import importance

# As wide as whole-sequence ratios of long traces get.
LOGS = st.lists(
    st.lists(st.floats(-1e4, 1e4) | st.just(-math.inf), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)


def flat(questions: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    group = np.repeat(np.arange(len(questions)), [len(q) for q in questions])
    return np.array(list(itertools.chain(*questions))), group


@given(LOGS)
def test_normalized_weights_sum_to_one_where_any_is_above_zero(
    questions: list[list[float]],
) -> None:
    log_rho, group = flat(questions)
    weight = importance.self_normalized(log_rho, group)
    sums = np.bincount(group, weights=weight)
    wanted = [float(any(r > -math.inf for r in q)) for q in questions]
    np.testing.assert_allclose(sums, wanted, rtol=1e-12)  # a few roundings of eight terms


@given(LOGS, st.floats(-1e3, 1e3))
def test_normalized_weights_ignore_a_common_factor(
    questions: list[list[float]], shift: float
) -> None:
    log_rho, group = flat(questions)
    np.testing.assert_allclose(
        importance.self_normalized(log_rho + shift, group),
        importance.self_normalized(log_rho, group),
        atol=1e-8,  # the shift itself rounds logs of 1e4 to 1e-12
    )


@given(LOGS)
def test_effective_sample_size_lies_between_one_and_k(questions: list[list[float]]) -> None:
    log_rho, group = flat(questions)
    for ess, q in zip(importance.effective_sample_size(log_rho, group), questions, strict=True):
        if any(r > -math.inf for r in q):
            assert 1 - 1e-9 <= ess <= len(q) + 1e-9
        else:
            assert ess == 0


def test_effective_sample_size_of_equal_weights_is_their_number() -> None:
    ess = importance.effective_sample_size(np.full(7, -1234.5), np.zeros(7, np.int64))
    assert ess == pytest.approx([7])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_the_bound_rises_with_k_from_the_elbo(log_rho: list[float]) -> None:
    bounds = importance.iwae_bounds(np.array([log_rho]))[0]
    assert bounds[0] == pytest.approx(np.mean(log_rho))
    assert bounds[-1] == pytest.approx(np.logaddexp.reduce(log_rho) - math.log(len(log_rho)))
    assert (np.diff(bounds) >= -1e-9).all()


SELECTED = st.sampled_from([importance.best, importance.resample])


@given(LOGS, SELECTED, st.integers(0, 99))
def test_at_most_one_trace_per_question_is_selected(
    questions: list[list[float]], select: Callable[..., np.ndarray], seed: int
) -> None:
    log_rho, group = flat(questions)
    weight = importance.self_normalized(log_rho, group)
    uniform = np.random.default_rng(seed).random(len(questions))
    rows = select(weight, log_rho, group, uniform)
    assert (np.bincount(group, weights=rows) == np.bincount(group, weights=weight).round()).all()
    assert (weight[rows > 0] > 0).all()


def test_resampling_draws_by_the_weight() -> None:
    log_rho, group = np.log([0.6, 0.3, 0.1]), np.zeros(3, np.int64)
    weight = importance.self_normalized(log_rho, group)
    grid = (np.arange(1000) + 0.5) / 1000
    rows = [importance.resample(weight, log_rho, group, np.array([u])) for u in grid]
    np.testing.assert_allclose(np.mean(rows, axis=0), weight, rtol=0, atol=1e-3)  # the grid's step


@given(LOGS, st.integers(0, 99))
def test_the_best_trace_does_not_depend_on_rounding_of_scores(
    questions: list[list[float]], seed: int
) -> None:
    """Scores of a resumed run differ by up to 1.1e-6 nats; equal traces must stay equal."""
    coarse = [[round(r, 3) for r in q] for q in questions]  # either equal, or not nearly
    log_rho, group = flat(coarse)
    noise = np.random.default_rng(seed).uniform(-1.1e-6, 1.1e-6, len(log_rho))
    one, other = (
        importance.best(importance.self_normalized(rho, group), rho, group)
        for rho in (log_rho, log_rho + noise)
    )
    np.testing.assert_array_equal(one, other)


def test_the_best_of_nearly_equal_traces_is_the_first() -> None:
    log_rho, group = np.array([-1.0, -0.5 - 1e-6, -0.5, -0.4, -0.3]), np.array([0, 0, 0, 1, 1])
    weight = importance.self_normalized(log_rho, group)
    assert list(importance.best(weight, log_rho, group)) == [0, 1, 0, 0, 1]
