"""The one attention function: causal within a row, blind across rows.

Rows of a bin lie one after the other in a single sequence. transformers' own ways to say so fail
silently when an argument is left at its default; this function is told the boundaries explicitly
and refuses to run without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "packed"

# Rows of at most this many tokens are padded to a common length and attended to in one call where
# that adds at most this share of tokens; longer rows gain nothing from company.
SHORT_ROW = 512
MAX_PADDING = 0.1


@dataclass(frozen=True)
class Layout:
    """Where the rows of a bin begin and end.

    Attributes
    ----------
    lengths : tuple of int
        Tokens of each row, in the order in which they lie.
    device : torch.device
        Where the bin's tensors are.
    """

    lengths: tuple[int, ...]
    device: torch.device

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of the bin."""
        return sum(self.lengths)

    @cached_property
    def cu_seqlens(self) -> torch.Tensor:
        """Start of each row and end of the last: int32 [rows + 1]."""
        ends = torch.tensor((0, *self.lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return ends.to(self.device)

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
        repeats its own row's last token: it comes after all of the row's tokens, so causality hides
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


def _one_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: int, scale: float
) -> torch.Tensor:
    """Attend within `rows` rows of equal length; [tokens, heads, head_dim] in and out."""
    q, k, v = (x.unflatten(0, (rows, -1)).transpose(1, 2) for x in (query, key, value))
    out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    return out.transpose(1, 2).flatten(0, 1)


def _attend_by_group(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    """Attention without a variable-length kernel; [tokens, heads, head_dim] in and out."""
    out = []
    # Split at once: the gradient of a slice is a whole bin of zeros around it.
    parts = zip(*(x.split(layout.group_sizes) for x in (query, key, value)), strict=True)
    for qkv, (_, rows, _), padding in zip(parts, layout.groups, layout.padding, strict=True):
        if padding is None:
            out.append(_one_length(*qkv, rows, scale))
        else:
            gather, real = padding
            padded = _one_length(*(x.index_select(0, gather) for x in qkv), rows, scale)
            out.append(padded.index_select(0, real))
    return out[0] if len(out) == 1 else torch.cat(out)


def _attend_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    """Flash attention over row boundaries (CUDA, half precision); shapes as above."""
    from torch.nn.attention.varlen import varlen_attn

    longest, known = max(layout.lengths), signature(varlen_attn).parameters
    causal = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if "scale" in known:
        causal["scale"] = scale
    else:  # torch 2.10 knows the usual scale only
        query = query * (scale * query.shape[-1] ** 0.5)
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            causal["enable_gqa"] = True
        else:
            repeats = query.shape[1] // key.shape[1]
            key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    bounds = layout.cu_seqlens
    return varlen_attn(query, key, value, bounds, bounds, longest, longest, **causal)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of one bin, with transformers' signature of an attention function.

    Parameters
    ----------
    query : [1, heads, tokens, head_dim]
    key, value : [1, key_value_heads, tokens, head_dim]
    layout : Layout
        Row boundaries, passed to the model's forward as keyword `layout`.

    Returns
    -------
    [1, tokens, heads, head_dim], None

    Raises
    ------
    ValueError
        Without a layout, or with a mask, dropout or sliding window, which this cannot do.
    """
    if layout is None:
        raise ValueError("packed attention needs the rows' boundaries: pass layout=Layout(...)")
    if attention_mask is not None or dropout or sliding_window is not None:
        raise ValueError("packed attention knows no mask, dropout or sliding window")
    if query.shape[0] != 1 or query.shape[2] != layout.n_tokens:
        raise ValueError(
            f"the layout has {layout.n_tokens} tokens in one bin, the query {query.shape[2]} "
            f"in {query.shape[0]}"
        )
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    varlen = q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)
    attend = _attend_varlen if varlen else _attend_by_group
    return attend(q, k, v, layout, scaling)[None], None


def register() -> None:
    """Make `attn_implementation="packed"` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def row_positions(lengths: Sequence[int]) -> torch.Tensor:
    """Position of every token within its own row: int64 [tokens]."""
    return torch.cat([torch.arange(n) for n in lengths])
