"""One state at a time: a network's answer without torch's cost per call, where the network is simple enough for numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from core.arrays import Floats32
from fusion.policy.exploration import uniforms_of
from fusion.policy.networks import Actor, Constant, Direction, PolicyNet

Answer: TypeAlias = Callable[[Floats32, str], Floats32]


def answerer(net: PolicyNet) -> Answer:
    """A function of a state `[n_obs]` and the request's id to the network's action `[n_params]`: `net.act` to float32's rounding.

    A network that samples draws from the request's id alone.

    >>> answer = answerer(Constant(3, 2))
    >>> answer(np.ones(3, np.float32), "r1").tolist()
    [0.0, 0.0]
    """
    make = _QUICK.get(type(net))
    return make(net) if make is not None else _Sampling(net)


class _Sampling:
    def __init__(self, net: PolicyNet) -> None:
        self.net = net

    def __call__(self, state: Floats32, request_id: str) -> Floats32:
        seed = int(uniforms_of(request_id, 1, "net")[0] * 2**53)
        with torch.inference_mode():
            given = self.net.act(torch.from_numpy(state[None]), torch.Generator().manual_seed(seed))
        action: Floats32 = given.numpy()[0]
        return action


class _Constant:
    def __init__(self, net: Constant) -> None:
        self.action = _array(net.action)

    def __call__(self, state: Floats32, request_id: str) -> Floats32:
        return self.action.copy()


class _Actor:
    def __init__(self, net: Actor) -> None:
        self.mean, self.scale = _array(net.standardise.mean), _array(net.standardise.scale)
        linear = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
        *self.hidden, (weight, bias) = [(np.ascontiguousarray(_array(layer.weight).T), _array(layer.bias)) for layer in linear]
        self.weight, self.bias = weight[:, : net.n_params], bias[: net.n_params]  # the mean; the rest is its deviation

    def __call__(self, state: Floats32, request_id: str) -> Floats32:
        h = np.minimum(np.maximum((state - self.mean) / self.scale, -5), 5)
        for weight, bias in self.hidden:
            h = np.maximum(h @ weight + bias, 0)
        action: Floats32 = np.tanh(h @ self.weight + self.bias)
        return action


class _Direction:
    def __init__(self, net: Direction) -> None:
        self.gate, self.tilt, self.constant = net.gate.numpy().copy(), _array(net.tilt[:-1]), _array(net.tilt[-1])
        self.low, self.high = _array(net.low), _array(net.high)
        self.never_negative, self.never_positive, self.half = self.low >= 0, self.high <= 0, (self.high - self.low) / 2

    def __call__(self, state: Floats32, request_id: str) -> Floats32:
        b = state[self.gate] @ self.tilt + self.constant
        b[((b < 0) & self.never_negative) | ((b > 0) & self.never_positive)] = 0
        size = np.abs(b).max()
        if not size > 1e-12:
            return np.full_like(b, size * 0)  # the middle; a state that is no number stays none
        action: Floats32 = (np.minimum(np.maximum(b / size, self.low), self.high) - self.low) / self.half - 1
        return action


def _array(tensor: torch.Tensor) -> Floats32:
    array: Floats32 = tensor.detach().numpy().copy()
    return array


_QUICK: Mapping[type[PolicyNet], Callable[[Any], Answer]] = {Constant: _Constant, Actor: _Actor, Direction: _Direction}
