"""All benchmarks, one after the other, each in a separate process.

python -m bench            all
python -m bench lm ...     some

Prints Markdown: the machine, then one table a module of this folder. bench/RESULTS.md keeps it.
"""

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path


def machine() -> str:
    """What the numbers were measured on, and when."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{datetime.date.today()}: {os.cpu_count()} cores of {processor}, {memory:.0f} GB, "
        f"Python {platform.python_version()}"
    )


def main(wanted: list[str]) -> int:
    """Run the modules wanted, or all; the exit code says whether one failed."""
    here = Path(__file__).parent
    modules = wanted or sorted(p.stem for p in here.glob("*.py") if not p.stem.startswith("_"))
    print(machine(), flush=True)
    failed = 0
    for module in modules:
        print(f"\n## {module}\n", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"bench.{module}"]).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
