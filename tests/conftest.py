"""Settings of the whole test run."""

from __future__ import annotations

import os

from hypothesis import settings

# Before torch is imported: the tiny model's matrices are too small to share between threads, and on a busy machine
# threads that wait for each other cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may depend on the hub.
os.environ["HF_HUB_OFFLINE"] = "1"

# A deadline in wall-clock time would make a slow machine look like a fault.
settings.register_profile("fedse", deadline=None)
settings.load_profile("fedse")
