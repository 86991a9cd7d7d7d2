"""Packed attention sees a row's own past and nothing else, and refuses to guess boundaries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from stages.lm import attention
from stages.lm.attention import Layout

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
        {"sliding_window": 4},
        {"layout": Layout((3, 1), CPU)},
    ],
)
def test_refuses_what_it_cannot_do_exactly(wrong):
    arguments = {"attention_mask": None, "layout": Layout((3, 2), CPU), "scaling": 1.0} | wrong
    with pytest.raises(ValueError, match=r"packed attention|layout has"):
        attention.packed_attention(torch.nn.Identity(), *random_qkv(5), **arguments)


def kernel(query, key, value, cu_q, cu_k, max_q, max_k, causal, scale, grouped):
    """What the CUDA kernel computes, by its documentation."""
    assert causal and cu_q.dtype == cu_k.dtype == torch.int32
    assert grouped or query.shape[1] == key.shape[1]
    lengths = np.diff(cu_q.tolist()).tolist()
    assert max(lengths) == max_q == max_k
    q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
    scale = WIDTH**-0.5 if scale is None else scale
    return row_by_row(q, k, v, lengths, scale)[0]


def torch_2_10(q, k, v, cu_q, cu_k, max_q, max_k, is_causal=False, return_aux=None):
    return kernel(q, k, v, cu_q, cu_k, max_q, max_k, is_causal, None, False)


def torch_2_11(
    q, k, v, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    return kernel(q, k, v, cu_q, cu_k, max_q, max_k, window_size == (-1, 0), scale, False)


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
    return kernel(q, k, v, cu_q, cu_k, max_q, max_k, window_size == (-1, 0), scale, enable_gqa)


@pytest.mark.parametrize("version", [torch_2_10, torch_2_11, torch_2_13])
def test_calls_each_torchs_kernel_the_way_it_wants(version, monkeypatch):
    """The CUDA kernel cannot run here: a stand-in with its signature computes what it documents."""
    import torch.nn.attention.varlen

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", version)
    lengths = (7, 1, 12)
    q, k, v = (x[0].transpose(0, 1) for x in random_qkv(sum(lengths)))
    got = attention._attend_varlen(q, k, v, Layout(lengths, CPU), 0.3)
    expected = attention._attend_by_group(q, k, v, Layout(lengths, CPU), 0.3)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)


def test_the_stand_in_has_the_installed_kernels_signature():
    from inspect import signature

    from torch.nn.attention.varlen import varlen_attn

    ours, theirs = (list(signature(f).parameters) for f in (torch_2_13, varlen_attn))
    assert ours[7:] == theirs[7:]
    assert len(ours) == len(theirs)
