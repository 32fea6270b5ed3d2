"""Recipes: known public data sets, and any log with a spec, made ready to train; each with its right split and no leakage."""

from ranker.recipes.base import Recipe

__all__ = ["Recipe"]
