"""docs/settings.md and docs/settings.schema.json agree with the code and describe every setting."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stages.experiments import documentation

ROOT = Path(__file__).parents[2]


def test_the_reference_is_up_to_date() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    assert text == documentation.reference(), "run `make docs`"


def test_the_schema_is_up_to_date() -> None:
    text = (ROOT / "docs" / "settings.schema.json").read_text()
    assert json.loads(text) == documentation.schema(), "run `make docs`"


@pytest.mark.parametrize("section", sorted(documentation.schema()["$defs"]))
def test_every_section_and_every_setting_has_a_description(section: str) -> None:
    definitions = documentation.schema()["$defs"]
    assert definitions[section].get("description")
    lacking = [
        name
        for name, value in definitions[section]["properties"].items()
        if not (value.get("description") or documentation.section_of(value, definitions))
    ]
    assert lacking == []


def test_the_schema_accepts_config_yaml() -> None:
    text = (ROOT / "config.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=docs/settings.schema.json\n")
    jsonschema.validate(yaml.safe_load(text), documentation.schema())


@pytest.mark.parametrize(
    "settings",
    [{"trace": {}}, {"traces": {"kk": 1}}, {"traces": {"k": 0}}, {"weights": {"ratio": "mean"}}],
)
def test_the_schema_refuses_what_settings_refuse(settings: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"experiments": {"mine": settings}}, documentation.schema())
