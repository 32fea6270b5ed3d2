"""Candidates: an index in `n_candidates` shards, each giving one item by popularity or by one of the user's topics.

An item lives in one shard, so the candidates of a request are distinct without a check, and a draw is two table look-ups.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.arrays import AnyArray, Ints
from simulator.catalogue import Catalogue
from simulator.population import Population
from simulator.settings import WorldSettings
from simulator.streams import Words, key, uniforms, words

_WHEEL = 256  # slots of a user's wheel of topics
_DEPTH = 256  # equally likely entries of a shard's list


class Retrieval:
    """Draws candidates for many users at once.

    `lists` `[n_candidates, n_topics + 1, 256]` holds item ids, the last topic meaning "any, by popularity"; `wheel` `[n_users,
    256]` topics.
    """

    def __init__(self, s: WorldSettings, catalogue: Catalogue, population: Population, seed: int) -> None:
        self.n = s.n_candidates
        self._topics = s.n_topics + 1
        self._lists = _lists(s, catalogue, seed).ravel()
        self._wheel = _wheel(s, population).ravel()
        self._shard = (np.arange(self.n) * self._topics * _DEPTH).astype(np.int64)

    def draw(self, users: Ints, block: Words, out: Ints) -> Ints:
        """Item ids `[B, n_candidates]` for `[B]` users from `[B, n_candidates]` random words."""
        low = block.astype(np.uint32)  # (B, N): one byte turns the wheel, another picks from the list
        slot = (low & np.uint32(_WHEEL - 1)).astype(np.int64)
        slot += (users * _WHEEL)[:, None]
        topic = self._wheel.take(slot)
        np.add(self._shard, ((low >> np.uint32(8)) & np.uint32(_DEPTH - 1)), out=slot)
        slot += topic.astype(np.int64) * _DEPTH
        np.copyto(out, self._lists.take(slot))
        return out


def _lists(s: WorldSettings, catalogue: Catalogue, seed: int) -> npt.NDArray[np.int32]:
    order = np.argsort(key(seed, 21, np.arange(s.n_items)), kind="stable")
    shard = np.empty(s.n_items, np.int64)
    shard[order] = np.arange(s.n_items) % s.n_candidates
    lists = np.empty((s.n_candidates, s.n_topics + 1, _DEPTH), np.int32)
    grid = (np.arange(_DEPTH) + 0.5) / _DEPTH
    for part in range(s.n_candidates):
        members = np.flatnonzero(shard == part)
        for topic in range(s.n_topics + 1):
            found = members if topic == s.n_topics else members[catalogue.topic[members, 0] == topic]
            found = found if len(found) else members
            cumulative = np.cumsum(catalogue.popularity[found].astype(float))
            lists[part, topic] = found[np.minimum(np.searchsorted(cumulative, grid * cumulative[-1]), len(found) - 1)]
    return lists


def _wheel(s: WorldSettings, population: Population) -> AnyArray:
    logits = s.personal_sharpness * population.steady.astype(float)
    weight = np.exp(logits - logits.max(1, keepdims=True))
    share = np.empty((len(population), s.n_topics + 1))
    share[:, :-1] = s.personal_share * weight / weight.sum(1, keepdims=True)
    share[:, -1] = 1 - s.personal_share
    edge = np.floor(np.cumsum(share, 1) * _WHEEL + 0.5).astype(np.int64)  # (U, K+1): where each topic's slots end
    start = np.zeros((len(population), _WHEEL + 1), np.int64)
    np.add.at(start, (np.arange(len(population))[:, None], edge[:, :-1]), 1)
    wheel = np.cumsum(start, 1)[:, :_WHEEL]
    return wheel.astype(np.uint8 if s.n_topics < 256 else np.uint16)


def uniform_pairs(s: WorldSettings, seed: int, n: int) -> tuple[Ints, Words]:
    """Users and candidate words of `n` sample requests, by which a world measures itself when it is made."""
    keys = key(seed, 22, np.arange(n))
    users = (uniforms(words(keys, 1))[:, 0] * s.n_users).astype(np.int64)
    return users, words(key(keys, 23), s.n_candidates)
