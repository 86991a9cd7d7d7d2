"""What is wrong with a setting, in one line, with the nearest right one."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Say in one line a mistake which setting is wrong, and name the nearest right one.

    Parameters
    ----------
    error : ValidationError
        What pydantic found in the settings.
    model : type of BaseModel
        The model they were checked against, for instance `Experiment`.
    where : str
        What the user calls them, for instance ``config.yaml: experiments.tiny``.
    """
    lines = []
    for mistake in error.errors():
        path = [str(part) for part in mistake["loc"]]
        place = ".".join([where, *path])
        if mistake["type"] == "extra_forbidden":
            known = list(_section_at(model, path[:-1]).model_fields)
            near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
            mend = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}."
            lines.append(f"{place}: there is no such setting; {mend}")
        else:
            message = mistake["msg"].removeprefix("Value error, ")
            given = "" if isinstance(mistake["input"], dict) else f" (given: {mistake['input']!r})"
            lines.append(f"{place}: {message}{given}")
    return "\n".join(dict.fromkeys(lines))


def _section_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for name in path:
        field = model.model_fields.get(name)
        if field is None:
            continue  # a position in a list
        found = [t for t in _types_in(field.annotation) if issubclass(t, BaseModel)]
        model = found[0] if found else model
    return model


def _types_in(annotation: Any) -> list[type]:
    inner = getattr(annotation, "__args__", ())
    own = [annotation] if isinstance(annotation, type) and not inner else []
    return own + [t for part in inner for t in _types_in(part)]
