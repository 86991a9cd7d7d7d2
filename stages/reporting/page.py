"""One HTML file of it all: page.html with its style, script, Plotly and data written into it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from stages.reporting.figures import MARGIN

HERE = Path(__file__).parent
LAYOUT = {
    "margin": MARGIN,
    "height": 300,
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "hoverlabel": {"align": "left"},
    "showlegend": False,
    "autosize": True,
}


def render(context: Mapping[str, Any], figures: Mapping[str, go.Figure]) -> str:
    """The page as text.

    Parameters
    ----------
    context : mapping
        Variables of page.html; all text is escaped there.
    figures : mapping
        By the id of the element that each is drawn in.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        **context,
        style=Markup((HERE / "page.css").read_text()),
        script=Markup((HERE / "page.js").read_text()),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        figures=Markup(_embedded({name: _laid_out(figure) for name, figure in figures.items()})),
    )


def _laid_out(figure: go.Figure) -> Any:
    data = figure.to_plotly_json()
    data["layout"] = LAYOUT | data["layout"] | {"template": "none"}
    data["layout"].get("xaxis", {}).get("title", {})["standoff"] = 8  # within the margin
    return json.loads(plotly.io.to_json(data, validate=False))


def _embedded(value: Any) -> str:
    """JSON that is safe in a script element, whatever its texts contain."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
