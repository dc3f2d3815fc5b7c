"""`config.json`: the options of a run, the settings of JAX that decide its numbers, and what identifies both."""

import dataclasses
import hashlib
import json
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax

from undelude._files import read_json, write_atomically
from undelude._runs.config import Config, check_config
from undelude._runs.layout import CONFIG, MAX_BYTES, RESTORE, damaged
from undelude._runs.seal import needs_seal, seal, why_unsealed
from undelude._versions import versions

# The name of the digest of a configuration, in `config.json` and in all files that belong to it.
DIGEST = "config_digest"
# Digits of it.
DIGITS = 16
# The numbers of updates at which the run was finished before it was made longer.
EARLIER = "earlier_steps"
# The name of the digest of the numbers of updates, which only `config.json` has.
# A finished run may be made longer, and its files still belong together, so that `config_digest` leaves them out.
STEPS_DIGEST = "steps_digest"
# Entries that do not determine the run, and that its digest leaves out.
ABOUT = ("devices", "versions", DIGEST, STEPS_DIGEST, "seal", "steps", EARLIER)
# Settings of JAX that decide the numbers of a run, with their types.
NUMERICS: dict[str, type | UnionType] = {
    "jax_enable_x64": bool,
    "jax_default_prng_impl": str,
    "jax_threefry_partitionable": bool,
    "jax_default_matmul_precision": str | None,
}


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """The content of a `config.json`.

    Attributes:
        config: the options of the run.
        numerics: the settings of JAX in `NUMERICS`.
        began_with: versions of the packages and the devices when the run began.
        seal: of `undelude._runs.seal`; None if this user has no key.
        earlier_steps: the numbers of updates at which the run was finished before it was made longer.
    """

    config: Config
    numerics: dict[str, Any]
    began_with: dict[str, str] = dataclasses.field(default_factory=dict)
    seal: str | None = None
    earlier_steps: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the options and of the settings of JAX."""
        return config_digest(dataclasses.asdict(self.config) | self.numerics)

    @property
    def distrust(self) -> str | None:
        """Why the task must not be called without permission; None if it is undelude's, or this user made the run."""
        task = self.config.task
        return why_unsealed(task, self.digest, self.seal) if needs_seal(task) else None


def numerics() -> dict[str, Any]:
    """Return the settings of JAX in `NUMERICS`."""
    return {name: getattr(jax.config, name) for name in NUMERICS}


def devices() -> str:
    """Return the number and kind of the devices."""
    return f"{jax.device_count()} {jax.devices()[0].device_kind}"


def config_digest(settings: dict[str, Any]) -> str:
    """Return the digest of the entries of a `config.json` that determine a run."""
    return _digest({name: value for name, value in settings.items() if name not in ABOUT})


def digests(data: dict[str, Any]) -> dict[str, str]:
    """Return the two digests of the entries of a `config.json`, by name."""
    digest = config_digest(data)
    steps = {DIGEST: digest, "steps": data.get("steps"), EARLIER: data.get(EARLIER, [])}
    return {DIGEST: digest, STEPS_DIGEST: _digest(steps)}


def _digest(entries: dict[str, Any]) -> str:
    canonical = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]


def write_config(file: Path, config: Config, *, earlier_steps: tuple[int, ...] = ()) -> ConfigFile:
    """Write `config.json`, with the settings of JAX, versions and devices of this process."""
    content = ConfigFile(config, numerics(), versions() | {"devices": devices()}, earlier_steps=earlier_steps)
    digest = content.digest
    content = dataclasses.replace(content, seal=seal(config.task, digest) if needs_seal(config.task) else None)
    longer = {EARLIER: list(earlier_steps)} if earlier_steps else {}
    data = dataclasses.asdict(config) | longer | content.numerics
    about = {"devices": devices(), "versions": versions(), **digests(data), "seal": content.seal}
    write_atomically(file, (json.dumps(data | about, indent=2) + "\n").encode())
    return content


def read_settings(file: Path) -> dict[str, Any]:
    """Return the entries of a `config.json`, which another version may have written; only the task must be there.

    Raises:
        ValueError: the file is damaged or was edited.
    """
    data = read_json(file, most=MAX_BYTES[CONFIG], remedy=RESTORE)
    if not isinstance(data.get("task"), str):
        raise damaged(file, 'it does not name a task ("task")')
    _check_digest(file, data)
    for name in ("seal", STEPS_DIGEST):
        data.pop(name, None)
    return data


def read_config(file: Path) -> ConfigFile:
    """Return the content of `config.json`.

    Raises:
        ValueError: the file is damaged or was edited; the message names the entry.
    """
    data = read_json(file, most=MAX_BYTES[CONFIG], remedy=RESTORE)
    hints = get_type_hints(Config) | NUMERICS | {DIGEST: str, STEPS_DIGEST: str, "seal": str | None}
    for name in sorted((data.keys() - {"devices", "versions", EARLIER}) ^ hints.keys()):
        what = "is missing" if name in hints else "is unknown to this version of undelude"
        raise damaged(file, f"{name!r:.99} {what}")
    for name, hint in hints.items():
        if not _fits(data[name], hint):
            raise damaged(file, f"{name!r} cannot be {data[name]!r:.99}")
    config = Config(**{field.name: data[field.name] for field in dataclasses.fields(Config)})
    try:
        check_config(config)
    except ValueError as error:
        raise damaged(file, error) from error
    _check_digest(file, data)
    recorded = data.get("versions", {})
    began_with = {str(name): str(x) for name, x in recorded.items()} if isinstance(recorded, dict) else {}
    if isinstance(there := data.get("devices"), str):
        began_with["devices"] = there
    earlier = tuple(data.get(EARLIER, []))
    return ConfigFile(config, {name: data[name] for name in NUMERICS}, began_with, data["seal"], earlier)


def _check_digest(file: Path, data: dict[str, Any]) -> None:
    earlier = data.get(EARLIER, [])
    if not (isinstance(earlier, list) and all(type(x) is int and 0 < x < 2**31 for x in earlier)):
        raise damaged(file, f"{EARLIER!r} cannot be {earlier!r:.99}")
    for name, actual in digests(data).items():
        stated = data.get(name)
        if stated is not None and stated != actual:
            called = f"; its task {data['task']!r:.99} was not called" if needs_seal(data["task"]) else ""
            raise damaged(file, f"it was edited: {name} is {stated!r:.99}, and its entries give {actual!r}{called}")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is bool:
        return isinstance(value, bool)
    numbers = (int, float) if hint is float else hint
    if hint is float and isinstance(value, int) and abs(value) > 2**63:
        return False  # An integer may be larger than any float.
    return isinstance(value, numbers) and not isinstance(value, bool)
