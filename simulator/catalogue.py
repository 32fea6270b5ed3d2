"""The items: topics, quality, duration, author, freshness, clickbait and a power law of popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import AnyArray, Bools, Floats32, Ints
from simulator.settings import WorldSettings
from simulator.streams import key, normals, uniforms, words


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One value per item, `[n_items]`; hidden ones move the truth, `visible` is what a service may know.

    `topic` `[n_items, 2]` with `blend` `[n_items, 2]` (squares add up to 1); `duration_s` in seconds; `birth_day` <= 0 counts
    from the world's first day; `popularity` adds up to 1.
    """

    topic: Ints
    blend: Floats32
    quality: Floats32
    clickbait: Floats32
    duration_s: Floats32
    author: Ints
    birth_day: Floats32
    is_new: Bools
    popularity: Floats32
    price: Floats32
    visible: dict[str, AnyArray]

    def __len__(self) -> int:
        return len(self.quality)


def make_catalogue(s: WorldSettings, seed: int) -> Catalogue:
    """Draw the items; item `i` depends on the settings, the seed and `i` alone."""
    block = words(key(seed, 1, np.arange(s.n_items)), 8)
    u, z = uniforms(block[:, :4]), normals(block[:, 4:])  # (I, 8), (I, 16)
    author = (s.n_authors * u[:, 0] ** 2).astype(np.int64)  # a few authors make much
    author_style = normals(words(key(seed, 2, author), 1))  # (I, 4)
    home = (key(seed, 3, author) % np.uint64(s.n_topics)).astype(np.int64)
    first = np.where(u[:, 1] < 0.6, home, (u[:, 2] * s.n_topics).astype(np.int64))
    second = (first + 1 + (u[:, 3] * (s.n_topics - 1)).astype(np.int64)) % s.n_topics
    angle = np.pi / 4 * u[:, 4]
    topic_z = normals(words(key(seed, 4, np.arange(s.n_topics)), 1))  # (K, 4)
    is_bait = u[:, 5] < s.clickbait_share
    clickbait = np.where(is_bait, 1.0 + 0.3 * z[:, 0], 0.15 * np.abs(z[:, 0]))
    quality = 0.8 * z[:, 1] + 0.6 * author_style[:, 0] + s.clickbait_quality * is_bait
    duration_s = s.duration_median_s * np.exp(s.duration_spread * (0.85 * z[:, 2] + 0.53 * topic_z[first, 0]))
    is_new = u[:, 6] < s.new_share
    birth_day = np.where(is_new, -2 * u[:, 7], -3 - 180 * u[:, 7] ** 2)
    appeal = z[:, 3] + 0.5 * quality + 0.3 * clickbait - 2.0 * is_new
    rank = np.empty(s.n_items)
    rank[np.argsort(-appeal, kind="stable")] = np.arange(1, s.n_items + 1)
    popularity = rank**-s.popularity_power
    price = np.exp(3.0 + 0.8 * z[:, 4])
    visible = {
        "topic": first,
        "topic_2": second,
        "author_id": author,
        "duration_s": np.round(np.clip(duration_s, 3.0, 1800.0), 1).astype(np.float32),
        "upload_day": np.floor(birth_day).astype(np.int64),
        "price": np.round(price, 2).astype(np.float32),
        "cover_style": np.clip(np.floor(2.5 * (clickbait + 0.35 * z[:, 5])), 0, 4).astype(np.int64),
        "past_views": np.where(is_new, 0, np.floor(2e5 * popularity * np.exp(0.3 * z[:, 6]))).astype(np.float32),
        "past_rating": np.where(is_new, 0.0, quality + 0.5 * z[:, 7]).astype(np.float32),
    }
    return Catalogue(
        topic=np.stack([first, second], 1),
        blend=np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32),
        quality=quality.astype(np.float32),
        clickbait=clickbait.astype(np.float32),
        duration_s=np.asarray(visible["duration_s"]),
        author=author,
        birth_day=birth_day.astype(np.float32),
        is_new=is_new,
        popularity=(popularity / popularity.sum()).astype(np.float32),
        price=price.astype(np.float32),
        visible=visible,
    )
