"""Benchmarks: every line is a ratio to a named baseline, measured in the same run.

Absolute times mean little on a shared machine; nothing here is asserted, and CI does not run it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import stages  # noqa: F401  # sets the policy of waiting threads before torch is imported


@dataclass(frozen=True)
class Line:
    """One line of the table of results.

    Attributes
    ----------
    what : str
        What was measured, against which baseline, on what.
    figure : str
        The result: a ratio, a rate, or ``"not run"``.
    goal : str
        What the project asks of it; empty where nothing is asked.
    met : bool or None
        Whether it is met; None where nothing is asked or nothing was run.
    memory : str
        Peak memory above what was there before, of baseline and ours.
    agreement : str
        How far the results of both lie apart.
    """

    what: str
    figure: str
    goal: str = ""
    met: bool | None = None
    memory: str = ""
    agreement: str = ""


def show(lines: Iterable[Line], heading: bool = True) -> None:
    """Print the lines as a Markdown table, each as soon as it is there."""
    verdict = {True: "yes", False: "**no**", None: ""}
    if heading:
        print("| measured | result | goal | met | extra peak memory | agreement |")
        print("|" + " --- |" * 6, flush=True)
    for line in lines:
        cells = (line.what, line.figure, line.goal, verdict[line.met], line.memory, line.agreement)
        print("| " + " | ".join(cells) + " |", flush=True)
