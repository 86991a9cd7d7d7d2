"""A Hugging Face causal language model, called with packed bins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from stages.lm import attention, probe
from stages.lm.families import logit_transform, read_config
from stages.lm.logprobs import token_logprobs
from stages.lm.loss import weighted_nll
from stages.lm.norms import fuse_norms

# Models of fewer parameters train faster on one CPU thread: their products are too small to share.
SMALL_MODEL = 5_000_000


@dataclass(frozen=True)
class Bin:
    """Rows packed into one sequence, and the tokens of them that are predicted.

    Attributes
    ----------
    input_ids, position_ids : int64 [1, T]
    layout : attention.Layout
        Boundaries of the rows.
    positions : int64 [P]
        Positions in the sequence whose successor is predicted, row by row.
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
    """Concatenate rows into a bin.

    Parameters
    ----------
    rows : sequence of int arrays
        Token ids of each row.
    n_context : sequence of int
        Leading tokens of each row that are not predicted; at least 1.

    Raises
    ------
    ValueError
        If a row has no context, or fewer tokens than context.
    """
    lengths = tuple(len(row) for row in rows)
    for length, context in zip(lengths, n_context, strict=True):
        if not 1 <= context <= length:
            raise ValueError(f"a row of {length} tokens cannot have {context} tokens of context")
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

    # a transformers model, whose attributes torch would declare as tensors or modules
    checkpoint: Any

    def __init__(self, checkpoint: Any) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.transform = logit_transform(checkpoint.config)

    @property
    def head(self) -> torch.Tensor:
        """Weight of the output embeddings: [vocabulary, hidden]."""
        return self.checkpoint.get_output_embeddings().weight

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.head.device

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
        if coefficients is None:
            return token_logprobs(hidden, self.head, bin_.targets, temperature, self.transform)
        return weighted_nll(hidden, self.head, bin_.targets, coefficients, self.transform)

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
        Packing is not exact for this model: by its configuration, before weights are read, or as
        measured on the model (`stages/lm/probe.py`).
    """
    from transformers import AutoModelForCausalLM

    config = read_config(path)
    attention.register()
    checkpoint: Any = AutoModelForCausalLM.from_pretrained(
        path, config=config, dtype=dtype, attn_implementation=attention.NAME
    )
    fuse_norms(checkpoint)
    model = LanguageModel(checkpoint.to(device)).eval()
    probe.check(model, str(path))
    return model


def use_threads(model: LanguageModel, threads: int) -> None:
    """Set the number of CPU threads; 0 leaves torch's choice, or one for a small model.

    The choice follows from the model alone: one by the clock would change the last bits of results
    from run to run.
    """
    small = sum(p.numel() for p in model.parameters()) < SMALL_MODEL
    if threads or small:
        torch.set_num_threads(threads or 1)
