"""Sessions of simulated users: a seeded, vectorised world in which the action is the fusion and the truth is known."""

from simulator.env import ENV_ID, SessionEnv, SingleSessionEnv, register
from simulator.rollout import rollout, transitions
from simulator.settings import preset_names
from simulator.traffic import traffic
from simulator.world import World

__all__ = ["ENV_ID", "SessionEnv", "SingleSessionEnv", "World", "preset_names", "register", "rollout", "traffic", "transitions"]

register()
