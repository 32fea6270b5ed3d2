"""Property tests: no time limit an example, which a busy machine would break, and the same examples in every run."""

from hypothesis import settings

settings.register_profile("ours", deadline=None, derandomize=True)
settings.load_profile("ours")
