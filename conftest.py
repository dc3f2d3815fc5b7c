"""Where Torch is not installed, files that need it are not collected; other import errors are errors."""

import importlib.util

NEED_TORCH = ["src/undelude/hf/*", "src/undelude/torch/*", "tests/hf/*"]

collect_ignore_glob = [] if importlib.util.find_spec("torch") else NEED_TORCH
