"""A causal language model that takes packed bins: from a Hugging Face checkpoint, untouched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from stages.common.errors import UserError
from stages.lm import attention
from stages.lm.logprobs import token_logprobs
from stages.lm.loss import weighted_nll
from stages.lm.norms import fuse_norms

ARCHITECTURES = ("qwen2", "qwen3")  # what the tests hold to the naive loop


@dataclass(frozen=True)
class Bin:
    """Rows packed into one sequence, and the tokens of them that are predicted.

    Attributes
    ----------
    input_ids, position_ids : int64 [1, T]
    layout : attention.Layout
        Boundaries of the rows.
    positions : int64 [P]
        Places in the sequence whose successor is predicted, row by row.
    targets : int64 [P]
        The successors.
    counts : tuple of int
        Predicted tokens of each row; they sum to P.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    layout: attention.Layout
    positions: torch.Tensor
    targets: torch.Tensor
    counts: tuple[int, ...]


def make_bin(
    rows: Sequence[np.ndarray], n_context: Sequence[int], device: torch.device | str = "cpu"
) -> Bin:
    """Lay rows one after the other.

    Parameters
    ----------
    rows : sequence of int arrays
        Token ids of each row.
    n_context : sequence of int
        Leading tokens of each row that are given, not predicted; at least 1.

    Raises
    ------
    ValueError
        If a row has no context, or fewer tokens than context.
    """
    lengths = tuple(len(row) for row in rows)
    for length, given in zip(lengths, n_context, strict=True):
        if not 1 <= given <= length:
            raise ValueError(f"a row of {length} tokens cannot have {given} tokens of context")
    ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))
    starts = np.cumsum((0, *lengths[:-1]))
    positions = torch.from_numpy(
        np.concatenate(
            [
                np.arange(s + c - 1, s + n - 1)
                for s, c, n in zip(starts, n_context, lengths, strict=True)
            ]
        )
    )
    device = torch.device(device)
    return Bin(
        input_ids=ids[None].to(device),
        position_ids=attention.row_positions(lengths)[None].to(device),
        layout=attention.Layout(lengths, device),
        positions=positions.to(device),
        targets=ids[positions + 1].to(device),
        counts=tuple(n - c for n, c in zip(lengths, n_context, strict=True)),
    )


class LanguageModel(torch.nn.Module):
    """A checkpoint's body and head, called with bins instead of padded batches."""

    def __init__(self, checkpoint: torch.nn.Module):
        super().__init__()
        self.checkpoint = checkpoint

    def forward(
        self, bin_: Bin, coefficients: torch.Tensor | None = None, temperature: float = 1.0
    ) -> torch.Tensor:
        """Log-probs of the bin's targets, or, with coefficients, their weighted loss.

        Parameters
        ----------
        coefficients : float32 [P], optional
            Weight of each target in the loss.
        temperature : float
            Of the log-probs; the loss is always at 1.

        Returns
        -------
        float32 [P] without gradient; with coefficients, a scalar with gradient
        """
        hidden = self.checkpoint.base_model(
            input_ids=bin_.input_ids,
            position_ids=bin_.position_ids,
            use_cache=False,
            layout=bin_.layout,
        ).last_hidden_state[0]
        hidden = hidden.index_select(0, bin_.positions)
        head = self.checkpoint.get_output_embeddings().weight
        if coefficients is None:
            return token_logprobs(hidden, head, bin_.targets, temperature)
        return weighted_nll(hidden, head, bin_.targets, coefficients)

    @property
    def attention_per_token(self) -> float:
        """`a` of `packing.row_costs` for this architecture."""
        config = self.checkpoint.config
        head_dim = getattr(config, "head_dim", None)
        head_dim = head_dim or config.hidden_size // config.num_attention_heads
        attention_width = config.num_hidden_layers * config.num_attention_heads * head_dim
        embeddings = self.checkpoint.get_input_embeddings().weight.numel()
        parameters = sum(p.numel() for p in self.parameters()) - embeddings
        if config.tie_word_embeddings:
            parameters += embeddings
        return attention_width / parameters


def load(
    path: str | Path, dtype: torch.dtype | Literal["auto"], device: torch.device | str = "cpu"
) -> LanguageModel:
    """Load a Hugging Face checkpoint; `auto` keeps the dtype that it is stored in.

    Raises
    ------
    UserError
        If the architecture is not one that packed attention is known to be exact for.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path)
    if config.model_type not in ARCHITECTURES:
        raise UserError(
            f"{path} is a {config.model_type} model; packed attention is checked for "
            f"{' and '.join(ARCHITECTURES)} only"
        )
    if "sliding_attention" in config.layer_types:
        raise UserError(f"{path} attends within a sliding window, which packed attention does not")
    attention.register()
    checkpoint = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, attn_implementation=attention.NAME
    )
    fuse_norms(checkpoint)
    return LanguageModel(checkpoint.to(device)).eval()
