"""Learners of batch-RL policies on RLlib's RLModule, TorchLearner and LearnerGroup: the only room of fusion that knows Ray."""
