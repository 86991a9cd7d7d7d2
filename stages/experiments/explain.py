"""One-line messages for invalid settings, with the closest valid name."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """One line per mistake: the setting, what is wrong, and the closest valid name.

    Parameters
    ----------
    error : ValidationError
        What pydantic reports.
    model : type of BaseModel
        The model that validated them, for instance `Experiment`.
    where : str
        Where the user wrote them, for instance ``config.yaml: experiments.tiny``.
    """
    lines = []
    for mistake in error.errors():
        path = [str(part) for part in mistake["loc"]]
        place = ".".join([where, *path])
        if mistake["type"] == "extra_forbidden":
            known = list(_section_at(model, path[:-1]).model_fields)
            near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            lines.append(f"{place}: no such setting; {hint}")
        else:
            message = mistake["msg"].removeprefix("Value error, ")
            value = "" if isinstance(mistake["input"], dict) else f" (value: {mistake['input']!r})"
            lines.append(f"{place}: {message}{value}")
    return "\n".join(dict.fromkeys(lines))


def _section_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for name in path:
        field = model.model_fields.get(name)
        if field is None:
            continue  # an index of a list
        sections = [t for t in _types_in(field.annotation) if issubclass(t, BaseModel)]
        model = sections[0] if sections else model
    return model


def _types_in(annotation: Any) -> list[type]:
    inner = getattr(annotation, "__args__", ())
    own = [annotation] if isinstance(annotation, type) and not inner else []
    return own + [t for part in inner for t in _types_in(part)]
