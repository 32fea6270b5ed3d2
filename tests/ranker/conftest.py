"""One thread for the tests' small matrices: more only wait for one another."""

import torch

torch.set_num_threads(1)
