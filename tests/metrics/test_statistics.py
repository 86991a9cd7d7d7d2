"""Scores and intervals: hand-computed values, properties, other libraries, simulated coverage."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import comb
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from stages.metrics import statistics as s

matrices = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=2, max_size=8)
)


def bounds(interval):
    return pytest.approx((interval.low, interval.high), abs=1e-9, nan_ok=True)


# ------------------------------------------------------------------------------------ pass@k


def test_pass_at_k_by_hand():
    assert s.pass_at_k(4, 1, 1) == pytest.approx(1 / 4)
    assert s.pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)  # one of six pairs has no hit
    assert s.pass_at_k(4, 0, 4) == 0
    assert s.pass_at_k(4, 3, 2) == 1


def test_pass_at_k_is_undefined_for_more_samples_than_were_drawn():
    assert math.isnan(s.pass_at_k(8, 8, 9))
    score = s.pass_score([[1, 1], [1, 1]], 3)
    assert math.isnan(score.value)
    assert "not 2" in score.population.method


@given(st.integers(1, 40), st.data())
def test_pass_at_k_equals_the_exact_binomials_and_every_subset(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - comb(n - c, k, exact=True) / comb(n, k, exact=True)
    # gammaln near 40 carries about 1e-14 of relative error; the sum of four is below 1e-12
    assert s.pass_at_k(n, c, k) == pytest.approx(exact, abs=1e-12)
    hypergeometric = stats.hypergeom.sf(0, n, c, k)
    assert s.pass_at_k(n, c, k) == pytest.approx(hypergeometric, abs=1e-9)
    if n <= 7:
        draws = [1] * c + [0] * (n - c)
        subsets = [max(subset) for subset in itertools.combinations(draws, k)]
        assert s.pass_at_k(n, c, k) == pytest.approx(np.mean(subsets))


@given(st.integers(1, 64), st.data())
def test_pass_at_k_grows_with_k_and_starts_at_the_average(n, data):
    c = data.draw(st.integers(0, n))
    curve = s.pass_at_k(n, c, np.arange(1, n + 1))
    assert curve[0] == pytest.approx(c / n)
    assert np.all(np.diff(curve) >= -1e-12)


def test_pass_at_k_refuses_impossible_counts():
    with pytest.raises(ValueError, match="0 <= c <= n"):
        s.pass_at_k(4, 5, 1)


# ------------------------------------------------------------------------------------- maj@k


@pytest.mark.parametrize(
    ("votes", "correct", "expected"),
    [
        ([0, 0, 1], [1, 1, 0], 1),
        ([0, 1, 1], [1, 0, 0], 0),
        ([0, 0, 1, 1], [1, 1, 0, 0], 1 / 2),  # a tie of two
        ([0, 1, 2], [1, 0, 0], 1 / 3),  # a tie of three
        ([0, -1, -1, -1], [1, 0, 0, 0], 1),  # no answer is not a vote
        ([-1, -1], [1, 1], 0),  # nobody answered
        ([3, 3, 7], [1, 0, 1], 1 / 2),  # the verifier is split on the winner
    ],
)
def test_majority_by_hand(votes, correct, expected):
    assert s.majority(votes, correct) == pytest.approx(expected)


def test_majority_equals_a_count_by_hand_of_random_ballots():
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, 4, size=(200, 9))
    correct = votes == 0
    for ballot, got in zip(votes, s.majority(votes, correct), strict=True):
        tally = {a: int((ballot == a).sum()) for a in set(ballot.tolist()) - {-1}}
        winners = [a for a, n in tally.items() if n == max(tally.values())]
        assert got == pytest.approx((0 in winners) / len(winners))


@given(matrices)
def test_majority_of_one_sample_is_the_average(correct):
    correct = np.array(correct)
    votes = np.where(correct, 0, 1)
    # as text, since a missing bound is NaN, which equals nothing
    assert str(s.majority_score(votes, correct, 1)) == str(s.average(correct))


def test_majority_over_disjoint_blocks():
    votes, correct = [[0, 0, 1, 1, 1, 0, 5]] * 2, [[1, 1, 0, 0, 0, 1, 0]] * 2
    # blocks (0 0 1) right, (1 1 0) wrong, the seventh sample fills no block
    score = s.majority_score(votes, correct, 3)
    assert score.value == pytest.approx(1 / 2)
    assert s.majority_score(votes, correct, 7).seeds.method.startswith("not available")


# --------------------------------------------------------------------------------- intervals


@given(st.lists(st.floats(0.2, 0.8), min_size=30, max_size=60), st.integers(0, 2**32 - 1))
def test_population_interval_equals_statsmodels(means, seed):
    values = np.array(means) + np.random.default_rng(seed).normal(0, 1e-3, len(means))
    interval = s.population_interval(values)
    assert interval.method == "t over questions"
    assert bounds(interval) == DescrStatsW(values).tconfint_mean(alpha=0.05)


@given(st.integers(0, 50), st.integers(1, 500))
def test_wilson_equals_statsmodels(c, more):
    n = c + more
    expected = proportion_confint(c, n, alpha=0.05, method="wilson")
    assert s.wilson_interval(c / n, n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_benchmark_without_spread_gets_wilson_over_its_questions(value):
    interval = s.population_interval([value] * 30)
    assert interval.method == "Wilson, effective n = 30"
    expected = proportion_confint(30 * value, 30, alpha=0.05, method="wilson")
    assert bounds(interval) == expected


def test_a_t_interval_that_would_leave_the_unit_range_gets_wilson():
    values = np.zeros(40)
    values[0] = 0.5  # mean 0.0125, se 0.0125: t would start below 0
    interval = s.population_interval(values)
    trials = 0.0125 * (1 - 0.0125) / 0.0125**2
    assert interval.method == f"Wilson, effective n = {trials:.4g}"
    assert 0 < interval.low < 0.0125 < interval.high


def test_seed_interval_by_hand():
    # variances of the two means: 1/3 / 4 and 0; Satterthwaite leaves the first question's 3
    interval = s.seed_interval([[1, 0, 1, 1], [1, 1, 1, 1]])
    variance = np.var([1, 0, 1, 1], ddof=1) / 4
    half = stats.t.ppf(0.975, 3) * math.sqrt(variance) / 2
    assert bounds(interval) == (7 / 8 - half, 1.0)  # cut at 1
    assert interval.method == "t over samples"


def test_one_sample_per_question_has_no_seed_interval():
    interval = s.average([[1], [0], [1]]).seeds
    assert math.isnan(interval.low)
    assert interval.method == ("not available: one sample per question has no spread")


def test_seed_interval_of_draws_that_all_agree_is_not_a_point():
    low, high = bounds(s.seed_interval([[1, 1], [0, 0], [0, 0], [0, 0]])).expected
    others = proportion_confint(0, 2, alpha=0.05, method="wilson")[1]
    assert low == pytest.approx(0.25 - 0.25 * others)
    others = proportion_confint(0, 6, alpha=0.05, method="wilson")[1]
    assert high == pytest.approx(0.25 + 0.75 * others)


@given(matrices)
def test_the_jackknife_of_pass_at_1_is_the_seed_interval_of_the_average(correct):
    a, b = s.pass_score(correct, 1), s.average(correct)
    assert a.value == pytest.approx(b.value)
    assert bounds(a.population) == (b.population.low, b.population.high)
    if len(correct[0]) > 1:
        assert bounds(a.seeds) == (b.seeds.low, b.seeds.high)


@given(matrices)
def test_every_interval_holds_its_score_and_stays_in_range(correct):
    n = len(correct[0])
    for score in [s.average(correct), *(s.pass_score(correct, k) for k in range(1, n + 1))]:
        for interval in (score.population, score.seeds):
            if not math.isnan(interval.low):
                assert 0 <= interval.low <= score.value + 1e-12
                assert score.value - 1e-12 <= interval.high <= 1


# ------------------------------------------------------------------------------------- pairs


def test_paired_difference_equals_scipys_paired_t():
    rng = np.random.default_rng(3)
    a, b = rng.random((50, 8)) < 0.6, rng.random((50, 8)) < 0.4
    score = s.paired_difference(a, b)
    expected = stats.ttest_rel(a.mean(1), b.mean(1)).confidence_interval(0.95)
    assert score.value == pytest.approx(a.mean() - b.mean())
    assert bounds(score.population) == (expected.low, expected.high)


@given(matrices)
def test_a_difference_turns_its_sign_with_its_order(correct):
    a = np.array(correct)
    b = np.roll(a, 1, axis=0)
    there, back = s.paired_difference(a, b), s.paired_difference(b, a)
    assert there.value == pytest.approx(-back.value)
    for x, y in ((there.population, back.population), (there.seeds, back.seeds)):
        assert bounds(x) == (-y.high, -y.low)


def test_two_models_that_never_differ_are_not_known_to_be_equal():
    score = s.paired_difference(np.zeros((30, 4)), np.zeros((30, 4)))
    bound = proportion_confint(0, 30, alpha=0.05, method="wilson")[1]
    assert bounds(score.population) == (-bound, bound)
    assert score.seeds.low < 0 < score.seeds.high


def test_a_pair_needs_the_same_questions():
    with pytest.raises(ValueError, match="same questions: 3 and 2"):
        s.paired_difference(np.zeros((3, 2)), np.zeros((2, 2)))


# ------------------------------------------------------------------------------------- macro


def test_macro_average_of_symmetric_parts_is_the_usual_standard_error():
    parts = [
        s.Score(v, s.Interval(v - h, v + h, "t"), s.Interval.missing("one sample"))
        for v, h in ((0.4, 0.03), (0.6, 0.04))
    ]
    macro = s.combine(parts, [0.5, 0.5])
    assert macro.value == pytest.approx(0.5)
    assert bounds(macro.population) == (0.475, 0.525)  # half of hypot(0.03, 0.04)
    assert macro.seeds.method == "not available: one sample"


# ---------------------------------------------------------------------------------- coverage


@pytest.mark.parametrize(("questions", "samples"), [(30, 32), (500, 2)])
def test_nominal_95_percent_covers(questions, samples):
    """Over 3,000 runs the share has a standard error of 0.4 points: 93 to 97 is 5 of them."""
    rng = np.random.default_rng(11)
    runs, a, b = 3000, 0.6, 0.9
    fixed = rng.beta(a, b, questions)
    hits = dict.fromkeys(("population", "seeds", "paired population", "paired seeds"), 0)

    def count(kind, interval, truth):
        hits[kind] += interval.low <= truth <= interval.high

    for _ in range(runs):
        p = rng.beta(a, b, questions)
        x = rng.random((questions, samples)) < p[:, None]
        count("population", s.average(x).population, a / (a + b))
        q = fixed**1.3  # a second model, right on the same questions but less often
        y = rng.random((questions, samples)) < fixed[:, None]
        z = rng.random((questions, samples)) < q[:, None]
        count("seeds", s.average(y).seeds, fixed.mean())
        count("paired seeds", s.paired_difference(y, z).seeds, (fixed - q).mean())
        w = rng.random((questions, samples)) < (p**2)[:, None]
        truth = a / (a + b) - a * (a + 1) / ((a + b) * (a + b + 1))  # E p - E p^2
        count("paired population", s.paired_difference(x, w).population, truth)
    assert {k: 0.93 <= h / runs <= 0.97 for k, h in hits.items()} == dict.fromkeys(hits, True), {
        k: h / runs for k, h in hits.items()
    }
