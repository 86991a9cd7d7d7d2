"""Packed attention sees only the past of the same row, and refuses to guess boundaries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from stages.lm import attention
from stages.lm.attention import Layout, Scores

CPU = torch.device("cpu")
HEADS, KEY_VALUE_HEADS, WIDTH = 4, 2, 8


def random_qkv(n_tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n_tokens)
    heads = (HEADS, KEY_VALUE_HEADS, KEY_VALUE_HEADS)
    return [
        torch.randn(1, h, n_tokens, WIDTH, generator=generator, requires_grad=True) for h in heads
    ]


def row_by_row(q, k, v, lengths, scale):
    parts = zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
    out = [
        scaled_dot_product_attention(*p, is_causal=True, scale=scale, enable_gqa=True)
        for p in parts
    ]
    return torch.cat(out, dim=2).transpose(1, 2)


def packed(q, k, v, layout, scale=0.3):
    return attention.packed_attention(torch.nn.Identity(), q, k, v, None, scale, layout=layout)[0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.one_of(st.integers(1, 40), st.just(33), st.integers(500, 530)), min_size=1))
def test_equals_attention_row_by_row_forward_and_backward(lengths):
    qkv = random_qkv(sum(lengths))
    expected = row_by_row(*qkv, lengths, 0.3)
    slope = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(expected, qkv, slope)
    got = packed(*qkv, Layout(tuple(lengths), CPU))
    # float32 sums in another order: a few units in the last place of numbers of size 1
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)
    for ours, theirs in zip(torch.autograd.grad(got, qkv, slope), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_rows_of_like_length_share_a_call_and_long_ones_do_not():
    assert Layout((100, 100, 95, 20, 600, 600), CPU).groups == [
        (0, 3, 100),
        (295, 1, 20),
        (315, 1, 600),
        (915, 1, 600),
    ]


def test_padding_reads_nothing_but_the_rows_own_tokens():
    layout = Layout((3, 2), CPU)
    attention_padding = attention.MAX_PADDING
    try:
        attention.MAX_PADDING = 1.0
        [(gather, real)] = layout.padding
    finally:
        attention.MAX_PADDING = attention_padding
    assert gather.tolist() == [0, 1, 2, 3, 4, 4]
    assert real.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"layout": None},
        {"attention_mask": torch.ones(1, 5)},
        {"dropout": 0.1},
        {"s_aux": torch.zeros(HEADS)},
        {"layout": Layout((3, 1), CPU)},
    ],
)
def test_refuses_what_it_cannot_do_exactly(wrong):
    arguments = {"attention_mask": None, "layout": Layout((3, 2), CPU), "scaling": 1.0} | wrong
    with pytest.raises(ValueError, match=r"packed attention|layout has"):
        attention.packed_attention(torch.nn.Identity(), *random_qkv(5), **arguments)


def dense(q, k, v, lengths, scores):
    """Attention by its definition: full masks, full scores; [heads, tokens, head_dim]."""
    row = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    place = torch.arange(sum(lengths))
    back = place[:, None] - place
    seen = (back >= 0) & (back < (scores.window or len(place))) & (row[:, None] == row)
    k, v = (x.repeat_interleave(HEADS // KEY_VALUE_HEADS, 1) for x in (k, v))
    products = q @ k.transpose(2, 3) * scores.scale
    if scores.softcap is not None:
        products = (products / scores.softcap).tanh() * scores.softcap
    return (products.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(1, 2)


CHANGES = [
    {"window": 1},
    {"window": 7},
    {"window": 600},
    {"softcap": 0.5},
    {"window": 9, "softcap": 2.0},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_windows_and_soft_caps_are_those_of_the_definition(changes, monkeypatch):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 16)
    lengths = (33, 33, 31, 1, 600, 3)
    qkv = random_qkv(sum(lengths))
    arguments = {"sliding_window": changes.get("window"), "softcap": changes.get("softcap")}
    layout = Layout(lengths, CPU)
    got, _ = attention.packed_attention(
        torch.nn.Identity(), *qkv, None, 0.3, layout=layout, **arguments
    )
    expected = dense(*qkv, lengths, Scores(0.3, **changes))
    slope = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(expected, qkv, slope)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)
    for ours, theirs in zip(torch.autograd.grad(got, qkv, slope), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, *CHANGES])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flex_attention_is_told_the_same(changes):
    """On a GPU it is compiled; here its reference runs, which has no gradient on a CPU."""
    lengths = (33, 31, 1, 200)
    q, k, v = (x.detach() for x in random_qkv(sum(lengths)))
    scores, layout = Scores(0.3, **changes), Layout(lengths, CPU)
    got = attention._attend_flex(*(x[0].transpose(0, 1) for x in (q, k, v)), layout, scores)
    expected = dense(q, k, v, lengths, scores)[0]
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)


def kernel(query, key, value, cu_q, cu_k, max_q, max_k, window, scale, grouped):
    """What the CUDA kernel computes, by its documentation: `window` tokens before, none after."""
    assert window[1] == 0 and cu_q.dtype == cu_k.dtype == torch.int32
    assert grouped or query.shape[1] == key.shape[1]
    lengths = np.diff(cu_q.tolist()).tolist()
    assert max(lengths) == max_q == max_k
    q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
    scale = WIDTH**-0.5 if scale is None else scale
    if not grouped:
        k, v = k[:, ::2], v[:, ::2]  # `dense` repeats them
    return dense(q, k, v, lengths, Scores(scale, None if window[0] < 0 else window[0] + 1))[0]


def torch_2_10(q, k, v, cu_q, cu_k, max_q, max_k, is_causal=False, return_aux=None):
    return kernel(q, k, v, cu_q, cu_k, max_q, max_k, (-1, 0 if is_causal else -1), None, False)


def torch_2_11(
    q, k, v, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    return kernel(q, k, v, cu_q, cu_k, max_q, max_k, window_size, scale, False)


def torch_2_13(
    q,
    k,
    v,
    cu_q,
    cu_k,
    max_q,
    max_k,
    *,
    return_aux=None,
    scale=None,
    window_size=(-1, -1),
    enable_gqa=False,
    seqused_k=None,
    block_table=None,
    num_splits=None,
):
    return kernel(q, k, v, cu_q, cu_k, max_q, max_k, window_size, scale, enable_gqa)


@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize("version", [torch_2_10, torch_2_11, torch_2_13])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_calls_each_torchs_kernel_the_way_it_wants(version, window, monkeypatch):
    """The CUDA kernel cannot run here: a fake with its signature computes what it documents."""
    import torch.nn.attention.varlen

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", version)
    lengths = (7, 1, 12)
    q, k, v = (x[0].transpose(0, 1).detach() for x in random_qkv(sum(lengths)))
    layout, scores = Layout(lengths, CPU), Scores(0.3, window)
    got = attention._attend_varlen(q, k, v, layout, scores)
    expected = attention._attend_by_group(q, k, v, layout, scores)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)


def test_the_stand_in_has_the_installed_kernels_signature():
    from inspect import signature

    from torch.nn.attention.varlen import varlen_attn

    ours, theirs = (list(signature(f).parameters) for f in (torch_2_13, varlen_attn))
    assert ours[7:] == theirs[7:]
    assert len(ours) == len(theirs)
