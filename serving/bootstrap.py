"""First start: with no ranker in the settings, a small simulated world, its log, a ranker and a formula are made and served."""

from __future__ import annotations

from serving.settings import Settings


def ensure(settings: Settings) -> Settings:
    """The settings as they are when they name a ranker; else those of the first-start world, made once below `work_dir`."""
    if settings.ranker:
        return settings
    raise NotImplementedError
