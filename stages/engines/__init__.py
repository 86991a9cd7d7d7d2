"""Sampling behind one small interface, with two engines: vLLM and plain transformers.

    with open_engine(model, settings.engine, machine, longest=2048) as engine:
        for draw in engine.sample(requests):
            ...

Every request has its own seed, so a draw depends on its request alone.
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
    """Sampling settings: `temperature` 0 is greedy, `top_k` −1 is off, `stop` texts end a draw."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """A requested draw: key, context tokens, seed and sampling settings."""

    key: tuple[str | int, ...]
    prompt_token_ids: list[int]
    seed: int
    sampling: Sampling


@dataclass(frozen=True)
class Draw:
    """A finished draw: tokens up to and including the stop; `finish_reason` is stop or length."""

    key: tuple[str | int, ...]
    token_ids: list[int]
    finish_reason: str


class Engine(Protocol):
    """Draws samples from a model; `tokenizer` is the one in the model's directory."""

    tokenizer: Any

    def sample(self, requests: Iterable[Request]) -> Iterator[Draw]:
        """Yield draws as they finish, in any order; requests are consumed as capacity allows."""
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
        The engine is not installed.
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
