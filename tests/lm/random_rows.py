"""Rows of random tokens for models of a small vocabulary."""

import numpy as np

VOCABULARY = 97


def random_rows(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    """Rows of random tokens; the last token of the vocabulary is never among them."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY - 1, n).astype(np.int32) for n in lengths]
