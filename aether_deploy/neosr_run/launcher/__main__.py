"""`python <this folder> JOB.json`, with neosr's own Python.

Started by path, the folder is not a package and need not be installed: it is made one here, under a name of its own,
and removed from sys.path so that its modules shadow no others.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGE = "aether_neosr_launcher"

folder = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
if spec is None:
    sys.exit(f"cannot load the launcher from {folder}")
sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
sys.path.pop(0)
importlib.import_module(f"{PACKAGE}.job").main(Path(sys.argv[1]))
