"""What every sampling step does: draw what the journal does not have yet."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.command import Progress
from stages.engines import Draw, Request, open_engine
from stages.settings import Engine, Machine
from stages.store import Journal


def draw_missing(
    journal: Journal,
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
    progress = Progress(what, len(requests), len(requests) - len(missing))
    if not missing:
        return
    longest = max(len(r.prompt_token_ids) + r.sampling.max_tokens for r in missing)
    with open_engine(model, engine, machine, longest) as running:
        for draw in running.sample(missing):
            text = running.tokenizer.decode(draw.token_ids, skip_special_tokens=False)
            journal.append(to_row(draw, text))
            progress.add(tokens=len(draw.token_ids))
