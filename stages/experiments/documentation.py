"""Reference documentation of the settings, generated from `settings` and `sources`.

python -m stages.experiments.documentation docs

writes settings.md, and settings.schema.json, with which editors complete and check config.yaml.
`make docs` runs it; a test fails where either file is out of date.
"""

import json
import sys
from pathlib import Path
from typing import Any

from stages.experiments.settings import MODELS, Experiment, Machine

INTRODUCTION = """\
# Settings

Generated from `stages/experiments/settings.py` and `sources.py` by `make docs`; do not edit.

An experiment in `config.yaml` states only what differs from the defaults below, from the section
`defaults` of `config.yaml`, and from the experiment that it names in `inherits`. A setting
`traces.k` is written

    experiments:
      mine:
        traces: {k: 16}
"""

Schema = dict[str, Any]


def schema() -> Schema:
    """JSON Schema of config.yaml (draft 2020-12)."""
    experiment, machine = Experiment.model_json_schema(), Machine.model_json_schema()
    definitions = experiment.pop("$defs")
    experiment["properties"]["inherits"] = {"type": "string", "description": "parent experiment"}
    benchmarks = definitions["Evaluation"]["properties"]["benchmarks"]
    benchmarks["items"] = {"anyOf": [{"type": "string"}, benchmarks["items"]]}  # or its name alone
    reference = {"$ref": "#/$defs/Experiment"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.yaml",
        "type": "object",
        "properties": {
            "defaults": reference,
            "experiments": {"type": "object", "additionalProperties": reference},
            "machine": {"$ref": "#/$defs/Machine"},
        },
        "$defs": {**definitions, "Experiment": experiment, "Machine": machine},
    }


def reference() -> str:
    """Markdown with a table of settings for each section."""
    definitions = schema()["$defs"]
    del definitions["Experiment"]["properties"]["inherits"]
    lines = [INTRODUCTION, *_section("", "Experiment", definitions)]
    return "\n".join([*lines, *_section("machine", "Machine", definitions)]).rstrip() + "\n"


def _section(path: str, name: str, definitions: Schema) -> list[str]:
    """Heading, description and table of a section, followed by its subsections."""
    properties = definitions[name]["properties"]
    lines = [f"## {path or 'An experiment'}", "", definitions[name]["description"], ""]
    if path in MODELS:
        shared = definitions["Finetune"]["properties"]
        properties = {key: value for key, value in properties.items() if shared.get(key) != value}
        lines += ["All settings of `finetune` can be set here, for this model only.", ""]
    sections = {key: section_of(value, definitions) for key, value in properties.items()}
    table = [
        f"| `{path}{'.' if path else ''}{key}` | {_values(value, definitions)} | {_default(value)} "
        f"| {value.get('description', '')} |"
        for key, value in properties.items()
        if sections[key] is None
    ]
    if table:
        lines += ["| setting | values | default | meaning |", "|---|---|---|---|", *table, ""]
    for key, section in sections.items():
        if section is not None:
            lines += _section(f"{path}.{key}" if path else key, section, definitions)
    return lines


def section_of(value: Schema, definitions: Schema) -> str | None:
    """Name of the section that a setting holds, None for a plain setting."""
    for option in [value, *value.get("anyOf", [])]:
        name = option.get("$ref", "").rpartition("/")[2]
        if name and "properties" in definitions[name]:
            return name
    return None


def _values(value: Schema, definitions: Schema) -> str:
    """Type and bounds of a setting, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        keys = definitions[name].get("properties")
        return f"mapping of {', '.join(keys)}" if keys else _values(definitions[name], definitions)
    if "anyOf" in value:
        options = [_values(option, definitions) for option in value["anyOf"]]
        return " or ".join(option for option in options if option != "null")
    if "enum" in value or "const" in value:
        return ", ".join(f"`{option}`" for option in value.get("enum", [value.get("const")]))
    if "prefixItems" in value:
        return (
            f"list of {len(value['prefixItems'])}: {_values(value['prefixItems'][0], definitions)}"
        )
    if value["type"] == "array":
        return f"list of {_values(value['items'], definitions)}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return " ".join([value["type"], *bounds])


def _default(value: Schema) -> str:
    default = value.get("default")
    return "" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "settings.md").write_text(reference())
    text = json.dumps(schema(), indent=2, ensure_ascii=False)
    (folder / "settings.schema.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
