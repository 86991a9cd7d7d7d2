"""The steps of the pipeline, one module each, and the rooms they share."""

import os

# Read by OpenMP when torch is loaded, so it is set before any module of the package can import it.
# Waiting threads otherwise spin on the core that a working thread, or another process, needs: two
# threads are then several times slower than one as soon as anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
