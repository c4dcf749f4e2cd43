"""PyTorch is optional: the library does without, and `ntkit.torch` says how to get it."""

import subprocess
import sys

PROGRAM = """
import sys
import ntkit
assert "torch" not in sys.modules
sys.modules["torch"] = None
try:
    import ntkit.torch
except ImportError as error:
    assert "pip install 'ntkit[torch]'" in str(error), error
else:
    raise SystemExit("ntkit.torch was imported without torch")
"""


def test_pytorch_is_imported_by_no_other_part_and_missed_with_a_remedy():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
