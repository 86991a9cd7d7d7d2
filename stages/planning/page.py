"""The plan as one HTML page, in the report's style, without figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.planning.estimate import Entry, Plan
from stages.planning.rates import DEVICES, GIB, rate_of
from stages.planning.workload import SPREAD

HERE = Path(__file__).parent
STYLE = HERE.parent / "reporting" / "page.css"


def render(plan: Plan, ledger: Sequence[Mapping[str, Any]]) -> str:
    """The page as text.

    Parameters
    ----------
    ledger : sequence of mappings
        `cost` of the finished experiment's eval.json; empty before it has run.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measured = {cost["artifact"]: cost for cost in ledger}
    rates = {e.kind: rate_of(e.kind, plan.device, plan.parameters) for e in plan.entries}
    return environment.get_template("plan.html").render(
        plan=plan,
        rows=[_row(entry, measured.get(entry.artifact)) for entry in plan.entries],
        memory=_memory_rows(plan.entries),
        misfits=[e for e in plan.entries if not e.fits],
        measured=bool(measured),
        total={f: plan.total(f) for f in ("tokens", "flops", "seconds", "low", "high", "disk")},
        price=_price(plan.total("price")) if plan.entries[0].price is not None else None,
        time=time,
        gib=GIB,
        spread=SPREAD,
        rates=list(rates.values()),
        source=DEVICES[plan.device].source,
        style=Markup(STYLE.read_text()),
    )


def time(seconds: float) -> str:
    """Seconds as people read them."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds / 3600:,.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def _price(value: float) -> str:
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _row(entry: Entry, cost: Mapping[str, Any] | None) -> dict[str, Any]:
    """A line of the table of artifacts, with what was measured where there is any."""
    seconds = cost.get("seconds") if cost else None
    return {
        "artifact": entry.artifact,
        "gpus": entry.gpus,
        "shards": entry.shards,
        "tokens": f"{entry.tokens:,}",
        "flops": f"{entry.flops:.1e}",
        "time": time(entry.seconds),
        "range": f"{time(entry.low)} to {time(entry.high)}",
        "price": None if entry.price is None else _price(entry.price),
        "disk": f"{entry.disk / GIB:,.1f}",
        "measured": "–" if seconds is None else time(seconds),
        "measured_tokens": f"{cost['tokens']:,}" if cost and cost.get("tokens") else "–",
        "ratio": f"{entry.seconds / seconds:.2f}" if seconds else "–",
    }


def _memory_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Memory by part; evaluations of one model differ in nothing, so the first one speaks."""
    seen: dict[str, Entry] = {}
    for entry in entries:
        name = entry.artifact
        seen.setdefault(name.rpartition("/")[0] if name.startswith("eval/") else name, entry)
    return [
        {
            "artifact": name,
            "parts": {part: f"{size / GIB:.1f}" for part, size in entry.memory.items()},
            "total": f"{sum(entry.memory.values()) / GIB:.1f}",
            "capacity": None if entry.capacity is None else f"{entry.capacity / GIB:.0f}",
            "fits": entry.fits,
            "remedies": entry.remedies,
        }
        for name, entry in seen.items()
    ]
