"""One thread for the tests' small networks: more only wait for one another."""

import torch

torch.set_num_threads(1)
