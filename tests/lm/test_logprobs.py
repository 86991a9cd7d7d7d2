"""Packed log-probs are those of a naive loop, and no row's numbers depend on another row."""

import numpy as np
import pytest
import torch
from random_rows import VOCABULARY, random_rows

from stages.lm import logprobs
from stages.lm.model import load, make_bin
from stages.lm.packing import pack

# What the project asks for: float32 on a CPU, per token, against one row at a time.
TOLERANCE = 1e-5
LENGTHS = [1, 2, 2, 3, 5, 17, 17, 17, 31, 100, 104, 511, 512, 513, 1000, 4000]
N_CONTEXT = [1, 1, 2, 1, 5, 1, 2, 16, 7, 1, 60, 500, 1, 3, 999, 40]


@pytest.fixture(scope="module")
def models(checkpoints):
    return {name: load(path, torch.float32) for name, path in checkpoints.items()}


def score(model, rows, n_context, budget=10**6, temperature=1.0):
    """Log-probs of every row, in the order of the rows."""
    found = {}
    for members in pack(np.array([len(row) for row in rows]), budget):
        bin_ = make_bin([rows[i] for i in members], [n_context[i] for i in members])
        with torch.no_grad():
            values = model(bin_, temperature=temperature).numpy()
        found |= zip(members, np.split(values, np.cumsum(bin_.counts)[:-1]), strict=True)
    return [found[i] for i in range(len(rows))]


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
@pytest.mark.parametrize("budget", [1, 700, 10**6])
def test_equals_a_naive_loop_for_any_packing(models, naive, architecture, budget):
    rows = random_rows(LENGTHS)
    scored = score(models[architecture], rows, N_CONTEXT, budget)
    for row, n_context, got in zip(rows, N_CONTEXT, scored, strict=True):
        expected = naive(architecture, row, n_context)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_temperature_divides_the_logits(models, naive):
    rows, n_context = random_rows([30, 50]), [3, 10]
    for row, given, got in zip(
        rows, n_context, score(models["qwen3"], rows, n_context, temperature=0.7), strict=True
    ):
        np.testing.assert_allclose(
            got, naive("qwen3", row, given, temperature=0.7), rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("tile", [1, 10, VOCABULARY])
def test_chunks_and_tiles_of_the_head_change_nothing(models, monkeypatch, tile):
    rows = random_rows([40, 30])
    whole = score(models["qwen3"], rows, [1, 1], temperature=0.7)
    monkeypatch.setitem(logprobs.CHUNK_BYTES, "cpu", 7 * 4 * VOCABULARY)  # 7 tokens
    monkeypatch.setitem(logprobs.TILE_BYTES, "cpu", 7 * 4 * tile)
    for one, other in zip(
        whole, score(models["qwen3"], rows, [1, 1], temperature=0.7), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("tile", [1, 3, 6])
def test_tokens_that_are_all_but_impossible_have_their_log_prob(monkeypatch, tile):
    """exp(−200) is 0 in float32: log-probs may not go through probabilities."""
    monkeypatch.setitem(logprobs.TILE_BYTES, "cpu", 6 * 4 * tile)
    logits = torch.tensor([0.0, 300.0, 500.0, 500.0, -50.0, 499.0])
    found = logprobs.token_logprobs(torch.ones(6, 1), logits[:, None], torch.arange(6))
    expected = torch.log_softmax(logits.double(), 0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
@pytest.mark.parametrize("changed", [0, 4, 8, 14, 15])
def test_another_rows_tokens_change_no_bit_of_a_rows_numbers(models, architecture, changed):
    rows = random_rows(LENGTHS)
    before = score(models[architecture], rows, N_CONTEXT)
    rows[changed] = random_rows([LENGTHS[changed]], seed=1)[0]
    after = score(models[architecture], rows, N_CONTEXT)
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        if number != changed:
            assert np.array_equal(one, other)
    if LENGTHS[changed] > N_CONTEXT[changed]:
        assert not np.array_equal(before[changed], after[changed])


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_a_row_of_nan_poisons_only_itself(checkpoints, architecture):
    """NaN spreads through every sum it enters, a weight of zero included."""
    model = load(checkpoints[architecture], torch.float32)
    rows = random_rows(LENGTHS)
    before = score(model, rows, N_CONTEXT)
    poisoned = 9
    rows[poisoned] = np.full(LENGTHS[poisoned], VOCABULARY - 1, dtype=np.int32)
    embedding = model.checkpoint.get_input_embeddings()
    head = model.checkpoint.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())  # the tied head stays sound
    with torch.no_grad():
        embedding.weight[VOCABULARY - 1] = float("nan")
    after = score(model, rows, N_CONTEXT)
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        assert np.isnan(other).all() if number == poisoned else np.array_equal(one, other)


def test_a_row_without_context_is_refused():
    with pytest.raises(ValueError, match="0 tokens of context"):
        make_bin(random_rows([5]), [0])
