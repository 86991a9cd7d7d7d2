"""Figures of the table of estimators, against hand counts, SciPy and known distributions."""

import math

import numpy as np
import pytest
from scipy import stats

from stages.weighting.comparison import pareto_k, rank_agreement


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_pareto_k_is_the_shape_of_the_tail(shape: float) -> None:
    weights = stats.genpareto(c=shape).rvs(50_000, random_state=np.random.default_rng(0))
    assert pareto_k(np.log(weights)) == pytest.approx(shape, abs=0.1)  # its standard error is 0.04


def test_pareto_k_counts_weights_of_zero_as_such() -> None:
    weights = stats.genpareto(c=0.5).rvs(50_000, random_state=np.random.default_rng(1))
    log_rho = np.where(np.arange(50_000) % 2, np.log(weights), -math.inf)
    assert pareto_k(log_rho) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("log_rho", [np.zeros(1000), np.full(1000, -math.inf), np.arange(50.0)])
def test_a_tail_that_cannot_be_fitted_has_no_pareto_k(log_rho: np.ndarray) -> None:
    assert pareto_k(log_rho) is None


def test_rank_agreement_is_counted_within_questions() -> None:
    """a: 1 pair alike, 1 reversed, 1 tied in accuracy. b: 1 alike. Across questions: ignored."""
    log_rho = np.array([0.0, 1.0, 2.0, -9.0, -8.0])
    accuracy = np.array([0.5, 1.0, 0.5, 0.0, 0.25])
    assert rank_agreement(log_rho, accuracy, np.array([0, 0, 0, 1, 1])) == pytest.approx(1 / 3)
    assert rank_agreement(log_rho, np.ones(5), np.array([0, 0, 0, 1, 1])) is None


def test_rank_agreement_of_one_question_is_somers_d() -> None:
    rng = np.random.default_rng(2)
    accuracy = rng.integers(0, 5, 40) / 4
    log_rho = np.where(accuracy > 0, accuracy + rng.normal(size=40).round(1), -math.inf)
    expected = stats.somersd(accuracy, np.nan_to_num(log_rho, neginf=-99)).statistic
    assert rank_agreement(log_rho, accuracy, np.zeros(40, np.int64)) == pytest.approx(expected)
