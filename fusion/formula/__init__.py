"""The formula language: a checked tree over task scores, its families, its batched kernel and its explanations."""

from fusion.formula.formula import Formula

__all__ = ["Formula"]
