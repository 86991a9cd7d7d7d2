"""The derivation of random seeds."""

import hashlib
import json


def derive_seed(experiment_seed: int, *key: str | int) -> int:
    """Seed of one draw, a function of the experiment's seed and the draw's key alone.

    Results therefore depend neither on the number of shards nor on any order, no two draws share
    noise, and K or M can grow later without repeating the first draws.

    Parameters
    ----------
    experiment_seed : int
        The experiment's `seed`.
    *key : str or int
        What is drawn, for instance ``("trace", round, question_id, k)``.

    Returns
    -------
    int
        In [0, 2**63), which fits an int64 column and every random generator.
    """
    text = json.dumps([experiment_seed, *key], ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
