"""Fusions that are learned rather than written: boosted trees and a network, both monotone in every task with a goal."""
