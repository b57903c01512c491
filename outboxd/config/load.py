"""Puts the layers together: the defaults, a TOML file, the environment, flags; each wins over those before it."""

import os
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from outboxd.config.explain import explain
from outboxd.config.keys import Key, Origins
from outboxd.config.layers import Layer, overridden_flags, read_environment, read_file, read_flags
from outboxd.config.settings import Context, Settings, merged
from outboxd.errors import ConfigError


class Loaded(NamedTuple):
    """The configuration, and where each value that was given comes from."""

    settings: Settings
    origins: Origins


def load(
    config_file: Path | None,
    flags: Mapping[str, Any],
    *,
    need_sink: bool = True,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The configuration. `flags` has dotted keys ("retry.max_attempts"), and values as text or of the key's type.

    Without `need_sink`, the brokers may be missing. `environ` stands in for the process's environment. Raises
    ConfigError with all problems, one a line.
    """
    return load_with_origins(config_file, flags, need_sink=need_sink, environ=environ).settings


def load_with_origins(
    config_file: Path | None,
    flags: Mapping[str, Any],
    *,
    need_sink: bool = True,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """As `load`."""
    file = read_file(config_file) if config_file is not None else Layer()
    environment = read_environment(os.environ if environ is None else environ)
    command_line = read_flags(flags)
    layers = (file, environment, command_line)

    problems = [problem for layer in layers for problem in layer.problems]
    problems += overridden_flags(command_line, file.origins | environment.origins)
    origins: dict[Key, str] = {key: origin for layer in layers for key, origin in layer.origins.items()}
    if file.problems:  # what it would have said is not known, so nothing can be called missing
        raise ConfigError("\n".join(problems))
    try:
        settings = _validated(layers, need_sink)
    except ValidationError as error:
        raise ConfigError("\n".join(problems + explain(error, origins))) from None
    if problems:
        raise ConfigError("\n".join(problems))
    return Loaded(settings, origins)


def _validated(layers: Sequence[Layer], need_sink: bool) -> Settings:
    values: dict[str, Any] = reduce(merged, (layer.values for layer in layers), {})
    return Settings.model_validate(values, context=Context(need_sink=need_sink))
