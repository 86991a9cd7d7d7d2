"""Write all settings of an experiment, including defaults.

python -m stages.settings --settings S --out settings.json
"""

from pathlib import Path

from stages.artifacts import store
from stages.experiments.settings import Experiment
from stages.running import command


def main(argv: list[str] | None = None) -> None:
    """Write the settings, including defaults."""
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON of all settings")
    args = parser.parse_args(argv)
    fields = set(Experiment.model_fields)
    store.write_json(args.out, args.settings.model_dump(mode="json", include=fields))


if __name__ == "__main__":
    command.run(main)
