"""The configuration: `load` reads it, `Settings` is what comes out."""

from outboxd.config.load import load
from outboxd.config.settings import Settings, SourceSettings

__all__ = ["Settings", "SourceSettings", "load"]
