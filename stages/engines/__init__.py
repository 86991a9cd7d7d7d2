"""Sampling behind one small interface, with two engines: vLLM and plain transformers.

    with open_engine(model, settings.engine, machine, longest=2048) as engine:
        for draw in engine.sample(requests):
            ...

Every request has a seed of its own, so a draw depends on its request alone.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stages.common.errors import UserError
from stages.experiments.settings import Engine as EngineSettings
from stages.experiments.settings import Machine


@dataclass(frozen=True)
class Sampling:
    """How to draw: `temperature` 0 is greedy, `top_k` −1 is off; `stop` texts end a draw."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """One draw that is wanted: its key, its context as tokens, its seed and how to draw it."""

    key: tuple[str | int, ...]
    prompt_token_ids: list[int]
    seed: int
    sampling: Sampling


@dataclass(frozen=True)
class Draw:
    """One finished draw: tokens up to and with the stop, and `stop` or `length`."""

    key: tuple[str | int, ...]
    token_ids: list[int]
    finish_reason: str


class Engine(Protocol):
    """Draws samples from a model; `tokenizer` is the one in the model's directory."""

    tokenizer: Any

    def sample(self, requests: Iterable[Request]) -> Iterator[Draw]:
        """Yield draws as they finish, in any order; requests are taken as there is room."""
        ...


def open_engine(
    model: Path, settings: EngineSettings, machine: Machine, longest: int
) -> AbstractContextManager[Engine]:
    """Start the engine that the settings name.

    Parameters
    ----------
    model : Path
        Directory of a Hugging Face checkpoint.
    settings, machine
        Sections `engine` and `machine`.
    longest : int
        Tokens of the longest request, context and draw together.

    Raises
    ------
    UserError
        The engine is not installed, or a GPU was asked for that is not there.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if settings.name == "transformers":
        from stages.engines.transformers import TransformersEngine

        return TransformersEngine(model, settings, machine, longest)
    try:
        from stages.engines.vllm import VllmEngine
    except ModuleNotFoundError as error:
        raise UserError(
            f"vLLM is not installed here ({error}); install requirements/cpu.txt or gpu.txt, or "
            "set engine.name: transformers"
        ) from None
    return VllmEngine(model, settings, machine, longest)
