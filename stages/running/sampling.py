"""What every sampling step does: draw what the journal does not have yet, and write the table."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from stages.artifacts import digests
from stages.artifacts.journal import Journal
from stages.artifacts.tables import Table
from stages.engines import Draw, Request, open_engine
from stages.experiments.settings import Engine, Machine, StepSettings
from stages.running import command
from stages.running.origin_of import Origin


class Rows(Protocol):
    """Where finished rows go: a journal, or several."""

    def __contains__(self, key: tuple[str | int, ...]) -> bool: ...

    def append(self, row: Mapping[str, Any]) -> None:
        """Keep a finished row."""


def draw_table(
    table: Table,
    requests: Sequence[Request],
    text_columns: Callable[[str, str], dict[str, Any]],
    *,
    out: Path,
    origin: Origin,
    model: Path,
    settings: StepSettings,
    machine: Machine,
    **figures: Any,
) -> None:
    """Draw every request, and write a table of one row a draw, in the requests' order.

    Parameters
    ----------
    table : Table
        `TRACES` or `ANSWERS`: its key is the requests' key, its name the step's.
    requests : sequence of Request
        All draws that the table will hold.
    text_columns : callable
        (question_id, text of a draw with markers and special tokens) -> columns made from it.
    out : Path
        The table to write.
    origin : Origin
        What it is made from.
    model, settings, machine
        What draws.
    **figures
        More for the provenance.
    """
    seeds = {request.key: request.seed for request in requests}

    def row(draw: Draw, text: str) -> dict[str, Any]:
        return {
            **dict(zip(table.key, draw.key, strict=True)),
            "seed": seeds[draw.key],
            "token_ids": draw.token_ids,
            "n_tokens": len(draw.token_ids),
            "finish_reason": draw.finish_reason,
            **text_columns(str(draw.key[0]), text),
        }

    with Journal(out, table, origin.recipe, ("n_tokens",)) as journal:
        draw_missing(
            journal,
            requests,
            row,
            what=table.name,
            model=model,
            engine=settings.engine,
            machine=machine,
        )
        tokens = journal.column("n_tokens", seeds)
        room = [context_length(model) - len(r.prompt_token_ids) for r in requests]
        limits = [r.sampling.max_tokens for r in requests]
        output = command.provenance(
            origin,
            settings,
            seconds=journal.seconds,
            tokens=sum(tokens),
            cut_by_context_length=sum(
                n >= left < limit for n, left, limit in zip(tokens, room, limits, strict=True)
            ),
            device=command.device_name(),
            tokenizer=digests.tokenizer_digest(model),
            **figures,
        )
        journal.finish(seeds, output)


def draw_missing(
    journal: Rows,
    requests: Sequence[Request],
    to_row: Callable[[Draw, str], dict[str, Any]],
    *,
    what: str,
    model: Path,
    engine: Engine,
    machine: Machine,
) -> None:
    """Draw every request whose key the journal lacks, and keep each row as it finishes.

    No engine is started when nothing is missing.

    Parameters
    ----------
    journal : Journal
        Open; its table's key is the requests' key.
    requests : sequence of Request
        All draws that the output will hold.
    to_row : callable
        Makes a row of a draw and its text (markers and special tokens included).
    what : str
        Plural name of a draw, for the progress line.
    model, engine, machine
        As for `engines.open_engine`.
    """
    missing = [request for request in requests if request.key not in journal]
    progress = command.Progress(what, len(requests), len(requests) - len(missing))
    if not missing:
        return
    lengths = [len(r.prompt_token_ids) + r.sampling.max_tokens for r in missing]
    longest, context = max(lengths), context_length(model)
    if longest > context:
        print(
            f"max_tokens: {sum(n > context for n in lengths):,} of {len(missing):,} {what} may "
            f"exceed the model's context of {context:,} tokens and would end there",
            file=sys.stderr,
        )
    with open_engine(model, engine, machine, longest) as running:
        for draw in running.sample(missing):
            text = running.tokenizer.decode(draw.token_ids, skip_special_tokens=False)
            journal.append(to_row(draw, text))
            progress.add(tokens=len(draw.token_ids))


def context_length(model: Path) -> float:
    """Tokens that a model has positions for; infinite where its configuration sets no limit."""
    config = json.loads((model / "config.json").read_text())
    return config.get("max_position_embeddings") or math.inf
