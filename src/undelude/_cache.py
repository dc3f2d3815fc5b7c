"""Compiled programs on disk, so that the next process need not compile them again."""

import contextlib
import platform
import sys

import jax
from jax.experimental.compilation_cache import compilation_cache

from undelude._files import user_folder

# Seconds of compilation from which a program is kept: all are, because together the small ones take seconds.
WORTH_KEEPING = 0.0


def keep_programs(*, announce: bool) -> None:
    """Let JAX keep compiled programs on disk, unless the user has chosen another folder or none.

    The folder is `$XDG_CACHE_HOME/undelude`, by default `~/.cache/undelude`.

    Args:
        announce: whether to name the folder on stderr when it is made.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]:
        return
    # Without a home (RuntimeError), or if it is not writable, programs are compiled again.
    with contextlib.suppress(OSError, RuntimeError):
        # One folder per machine: machines that share a home may not be able to run each other's programs.
        folder = user_folder("XDG_CACHE_HOME", ".cache") / "jax" / platform.node()
        if not folder.is_dir():
            folder.mkdir(parents=True)
            if announce:
                print(f"undelude: compiled programs are kept in {folder}.", file=sys.stderr)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
        # JAX decides about a cache when it compiles first, which may be over.
        compilation_cache.reset_cache()
