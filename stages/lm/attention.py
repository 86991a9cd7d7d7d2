"""Attention over packed rows: causal within a row, none across rows.

The rows of a bin are concatenated into one sequence. transformers' own packing arguments fail
silently when one is left at its default; this function takes the row boundaries explicitly and
raises without them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

NAME = "packed"

# Rows of at most this many tokens are padded to a common length and share a call if that adds at
# most this share of tokens; longer rows gain nothing from batching.
SHORT_ROW = 512
MAX_PADDING = 0.1
# Queries worked on at a time where scores have to be masked or capped in the open.
QUERY_BLOCK = 512


@dataclass(frozen=True)
class Layout:
    """Row boundaries of a bin.

    Attributes
    ----------
    lengths : tuple of int
        Tokens of each row, in order.
    device : torch.device
        Where the bin's tensors are.
    """

    lengths: tuple[int, ...]
    device: torch.device
    _block_masks: dict[int | None, BlockMask] = field(
        default_factory=dict, repr=False, compare=False
    )

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of the bin."""
        return sum(self.lengths)

    @cached_property
    def cu_seqlens(self) -> torch.Tensor:
        """Start of each row and end of the last: int32 [rows + 1]."""
        ends = torch.tensor((0, *self.lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return ends.to(self.device)

    def block_mask(self, window: int | None) -> BlockMask:
        """FlexAttention's mask: causal, within a row, within the window; made once a bin."""
        if window not in self._block_masks:
            lengths = torch.tensor(self.lengths)
            row = torch.arange(len(lengths)).repeat_interleave(lengths).to(self.device)
            reach = window or self.n_tokens

            def seen(
                b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor
            ) -> torch.Tensor:
                return (i >= j) & (i - j < reach) & (row[i] == row[j])

            self._block_masks[window] = create_block_mask(
                seen, None, None, self.n_tokens, self.n_tokens, device=self.device
            )
        return self._block_masks[window]

    @cached_property
    def groups(self) -> list[tuple[int, int, int]]:
        """Neighbouring rows of like length: (first token, rows, longest row) of each group."""
        groups: list[tuple[int, int, int]] = []
        start = tokens = rows = longest = 0
        for length in self.lengths:
            padded = max(longest, length) * (rows + 1)
            fits = padded <= (1 + MAX_PADDING) * (tokens + length)
            if rows and not (max(longest, length) <= SHORT_ROW and fits):
                groups.append((start, rows, longest))
                start, tokens, rows, longest = start + tokens, 0, 0, 0
            tokens, rows, longest = tokens + length, rows + 1, max(longest, length)
        groups.append((start, rows, longest))
        return groups

    @cached_property
    def group_sizes(self) -> list[int]:
        """Tokens of each group."""
        return np.diff([start for start, _, _ in self.groups], append=self.n_tokens).tolist()

    @cached_property
    def padding(self) -> list[tuple[torch.Tensor, torch.Tensor] | None]:
        """Of each group: index of every padded place's token, and of every token's padded place.

        None where a group is one row, or rows of one length, and needs no padding. A padded place
        repeats the row's last token: it comes after all of the row's tokens, so causality hides
        it from them, and nothing of another row is ever read.
        """
        indices: list[tuple[torch.Tensor, torch.Tensor] | None] = []
        first_row = 0
        for _, rows, longest in self.groups:
            lengths = torch.tensor(self.lengths[first_row : first_row + rows])
            first_row += rows
            if bool((lengths == longest).all()):
                indices.append(None)
                continue
            starts = lengths.cumsum(0) - lengths
            place = torch.arange(longest)
            gather = (starts[:, None] + torch.minimum(place, lengths[:, None] - 1)).flatten()
            real = place < lengths[:, None]
            indices.append((gather.to(self.device), real.flatten().nonzero()[:, 0].to(self.device)))
        return indices


@dataclass(frozen=True)
class Scores:
    """How a layer makes attention scores of queries and keys.

    Attributes
    ----------
    scale : float
        Factor of the products.
    window : int or None
        Tokens that a query sees, itself included; None for all of its past.
    softcap : float or None
        Scores become `softcap · tanh(score / softcap)`; None leaves them.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None


def _one_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: int, scores: Scores
) -> torch.Tensor:
    """Attend within `rows` rows of equal length; [tokens, heads, head_dim] in and out."""
    q, k, v = (x.unflatten(0, (rows, -1)).transpose(1, 2) for x in (query, key, value))
    length = q.shape[2]
    if scores.softcap is None and (scores.window is None or scores.window >= length):
        out = scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scores.scale, enable_gqa=True
        )
    else:
        blocks = [
            _query_block(q, k, v, start, min(start + QUERY_BLOCK, length), scores)
            for start in range(0, length, QUERY_BLOCK)
        ]
        out = torch.cat(blocks, dim=2)
    return out.transpose(1, 2).flatten(0, 1)


def _query_block(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, start: int, stop: int, scores: Scores
) -> torch.Tensor:
    """Attention of queries `start:stop` over the keys that they see; [rows, heads, n, head_dim]."""
    window = scores.window or stop
    first = max(0, start - window + 1)
    place = torch.arange(start, stop, device=q.device)[:, None]
    past = place - torch.arange(first, stop, device=q.device)
    seen = (past >= 0) & (past < window)
    q, k, v = q[:, :, start:stop], k[:, :, first:stop], v[:, :, first:stop]
    if scores.softcap is None:
        return scaled_dot_product_attention(
            q, k, v, attn_mask=seen, scale=scores.scale, enable_gqa=True
        )
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
    products = (q @ k.transpose(2, 3)).float() * (scores.scale / scores.softcap)
    capped = (products.tanh() * scores.softcap).masked_fill(~seen, -torch.inf)
    return capped.softmax(-1).to(v.dtype) @ v


def _attend_by_group(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scores: Scores
) -> torch.Tensor:
    """Attention without a variable-length kernel; [tokens, heads, head_dim] in and out."""
    out = []
    # Split at once: the gradient of a slice is a whole bin of zeros around it.
    parts = zip(*(x.split(layout.group_sizes) for x in (query, key, value)), strict=True)
    for (q, k, v), (_, rows, _), padding in zip(parts, layout.groups, layout.padding, strict=True):
        if padding is None:
            out.append(_one_length(q, k, v, rows, scores))
        else:
            gather, real = padding
            q, k, v = (x.index_select(0, gather) for x in (q, k, v))
            padded = _one_length(q, k, v, rows, scores)
            out.append(padded.index_select(0, real))
    return out[0] if len(out) == 1 else torch.cat(out)


def _attend_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scores: Scores
) -> torch.Tensor:
    """Flash attention over row boundaries (CUDA, half precision, no soft cap); shapes as above."""
    from torch.nn.attention.varlen import varlen_attn

    longest, known = max(layout.lengths), signature(varlen_attn).parameters
    before = -1 if scores.window is None else scores.window - 1
    if "window_size" in known:
        causal: dict[str, Any] = {"window_size": (before, 0)}
    elif scores.window is None or scores.window >= longest:
        causal = {"is_causal": True}
    else:
        return _attend_flex(query, key, value, layout, scores)
    if "scale" in known:
        causal["scale"] = scores.scale
    else:  # torch 2.10 knows the usual scale only
        query = query * (scores.scale * query.shape[-1] ** 0.5)
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            causal["enable_gqa"] = True
        else:
            repeats = query.shape[1] // key.shape[1]
            key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    bounds = layout.cu_seqlens
    attended = varlen_attn(query, key, value, bounds, bounds, longest, longest, **causal)
    assert isinstance(attended, torch.Tensor)  # without log-sum-exps, which are not asked for
    return attended


def _attend_flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scores: Scores
) -> torch.Tensor:
    """FlexAttention over row boundaries, for what the varlen kernel lacks; shapes as above."""
    flex: Any = _compiled_flex() if query.is_cuda else flex_attention
    softcap = scores.softcap or 1.0  # unused without one

    def capped(
        score: torch.Tensor, b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor
    ) -> torch.Tensor:
        return torch.tanh(score / softcap) * softcap

    q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
    out = flex(
        q,
        k,
        v,
        score_mod=None if scores.softcap is None else capped,
        block_mask=layout.block_mask(scores.window),
        scale=scores.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out[0].transpose(0, 1)


@cache
def _compiled_flex() -> Callable[..., torch.Tensor]:
    """FlexAttention is a fused kernel only when compiled; bins differ in length."""
    return torch.compile(flex_attention, dynamic=True)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    s_aux: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of one bin, with transformers' signature of an attention function.

    Parameters
    ----------
    query : [1, heads, tokens, head_dim]
    key, value : [1, key_value_heads, tokens, head_dim]
    layout : Layout
        Row boundaries, passed to the model's forward as keyword `layout`.
    scaling, sliding_window, softcap
        As of `Scores`; a family's attention layers pass their own.

    Returns
    -------
    [1, tokens, heads, head_dim], None

    Raises
    ------
    ValueError
        Without a layout, or with a mask, dropout or attention sinks, which this cannot do.
    """
    if layout is None:
        raise ValueError("packed attention needs the rows' boundaries: pass layout=Layout(...)")
    if attention_mask is not None or dropout or s_aux is not None:
        raise ValueError("packed attention supports neither masks, dropout nor attention sinks")
    if query.shape[0] != 1 or query.shape[2] != layout.n_tokens:
        raise ValueError(
            f"the layout has {layout.n_tokens} tokens in one bin, the query {query.shape[2]} "
            f"in {query.shape[0]}"
        )
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    scores = Scores(scaling, sliding_window, softcap)
    if not (q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)):
        attend = _attend_by_group
    else:
        attend = _attend_varlen if softcap is None else _attend_flex
    return attend(q, k, v, layout, scores)[None], None


def register() -> None:
    """Make `attn_implementation="packed"` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def row_positions(lengths: Sequence[int]) -> torch.Tensor:
    """Position of every token within its row: int64 [tokens]."""
    return torch.cat([torch.arange(n) for n in lengths])
