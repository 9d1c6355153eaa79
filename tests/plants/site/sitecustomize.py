"""Puts a planted fault into supervisors, fork servers and shards: tests that start servers have this on their path.

Not by the objects that a fork server imports, which would leave the supervisor as it is.
"""

import os
import sys
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))

from tests.plants.plant import grow_from_environment

try:
    grow_from_environment()
except BaseException:  # Python itself would go on without
    traceback.print_exc()
    os._exit(1)
