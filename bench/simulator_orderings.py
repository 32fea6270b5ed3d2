"""What each preset promises, on sessions that chose nothing: who is better than whom, and how much personalisation is worth."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.harness import Cell
from bench.simulator_parts import Part
from core.arrays import Floats, Floats32
from simulator import SessionEnv, World
from simulator.judge import Interval, Judged, interval, judge, ratio_interval
from simulator.oracle import best_constant, oracle_items, oracle_weights
from simulator.policies import constant

HAND, TUNED, WEIGHTS, ITEMS = "hand_set", "best constants", "oracle weights", "oracle items"
ONLY = {
    "default": ("click",),
    "clickbait": ("click",),
    "duration_bias": ("watch_s", "complete"),
    "scarce_feedback": ("click", "purchase"),
    "cold_start": ("click",),
    "drift": ("click",),
    "two_scenarios": ("click",),
}
SEEDS: Mapping[str, tuple[int, ...]] = {"default": (0, 1)}  # world 0 for the others
TUNE_SEED, JUDGE_SEED, N_SLOTS = 50, 1, 256


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it: judged sessions, and the rounds and tries of the search for the best constants."""

    n_sessions: int
    rounds: int
    tries: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise: the difference that is meant to be above 0, per session or per page, with its paired 95 % interval."""

    text: str
    found: Interval

    @property
    def holds(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.found.low > 0


def tuned(preset: str, world_seed: int, size: Size) -> Part:
    """The best constant action of one world, on sessions that judge nothing."""
    env = SessionEnv(World.make(preset, seed=world_seed), N_SLOTS)
    action = best_constant(env, n_sessions=size.n_sessions // 2, seed=TUNE_SEED, rounds=size.rounds, size=size.tries)
    return Part(figures={name: float(x) for name, x in zip(env.world.tasks.names, action, strict=True)})


def orderings(preset: str, world_seed: int, size: Size, best: Part) -> Part:
    """One world of a preset, with its tuned constants: a table of policies, a table of claims, its headroom."""
    start, part = time.perf_counter(), Part()
    action = np.array(list(best.figures.values()), np.float32)
    found = policies(SessionEnv(World.make(preset, seed=world_seed), N_SLOTS), ONLY[preset], action, size.n_sessions)
    returns, where = found[TUNED].session_return, f"{preset}, world {world_seed}"
    part.table(
        ["policy", "return", "over best constants", "pages", "clicks a page", "days away"],
        [_row(name, judged, returns) for name, judged in found.items()],
        title=f"{where}: {size.n_sessions:,} paired sessions, 95 % intervals ({time.perf_counter() - start:.0f} s)",
    )
    claims = promised(preset, found)
    rows: list[list[Cell]] = [[c.text, str(c.found), "holds" if c.holds else "not shown"] for c in claims]
    part.table(["promise", "difference", "verdict"], rows, title=f"{where}: what the preset promises")
    room = ratio_interval(found[WEIGHTS].session_return, returns)
    part.figures = {
        "headroom": room.mean - 1,
        "headroom_low": room.low - 1,
        "headroom_high": room.high - 1,
        "promises": len(claims),
        "promises_kept": sum(claim.holds for claim in claims),
    }
    return part


def policies(env: SessionEnv, only: Sequence[str], best: Floats32, n: int) -> dict[str, Judged]:
    """Everybody on the same `n` sessions; `best` is the tuned constant action."""
    names, hand = env.world.tasks.names, env.world.hand_set()
    found = {HAND: _judge(env, env.actions(hand / np.float32(np.abs(hand).max())), n), TUNED: _judge(env, best, n)}
    rho = float(found[HAND].session_return.sum() / found[HAND].pages.sum())
    for task in only:
        weights = np.eye(env.n_params, dtype=np.float32)[names.index(task)]
        found[f"{task} only"] = _judge(env, env.actions(weights), n)
        if task == "purchase":
            without = np.where(weights > 0, np.float32(0), env.weights(best[None])[0])
            found[f"{TUNED}, {task} 0"] = _judge(env, env.actions(without), n)
    found[WEIGHTS] = judge(env, oracle_weights(env, rho=rho), n_sessions=n, seed=JUDGE_SEED)
    found[ITEMS] = judge(env, rank=oracle_items(rho=rho), n_sessions=n, seed=JUDGE_SEED)
    return found


def promised(preset: str, found: Mapping[str, Judged]) -> list[Claim]:
    """The preset's claims: the ladder of returns for all, and its own point."""

    def returns(better: str, worse: str) -> Claim:
        gap = found[better].session_return - found[worse].session_return
        return Claim(f"return of {better} over {worse}", interval(gap))

    ladder = [returns(ITEMS, WEIGHTS), returns(WEIGHTS, TUNED), returns(TUNED, HAND)]
    one_sided = [returns(HAND, f"{task} only") for task in ONLY[preset]]
    if preset == "clickbait":
        ctr, multi = found["click only"], found[HAND]
        one_sided += [
            Claim("clicks a page of click only over hand_set", _rate_gap(ctr, multi)),
            Claim("pages a session of hand_set over click only", interval(multi.pages - ctr.pages)),
            Claim("days away after click only over hand_set", interval(ctr.days_away - multi.days_away)),
        ]
    if preset == "scarce_feedback":
        one_sided.append(returns(TUNED, f"{TUNED}, purchase 0"))
    return [*ladder, *one_sided]


def _rate_gap(a: Judged, b: Judged) -> Interval:
    """The difference of two rates of clicks a page, paired by session, by the delta method."""

    def influence(x: Judged) -> Floats:
        moved: Floats = (x.clicks - x.clicks_per_page * x.pages) / x.pages.mean()
        return moved

    gap, around = a.clicks_per_page - b.clicks_per_page, interval(influence(a) - influence(b))
    return Interval(gap, gap + around.low - around.mean, gap + around.high - around.mean)


def _row(name: str, judged: Judged, best: Floats) -> list[Cell]:
    over, clicks = ratio_interval(judged.session_return, best), ratio_interval(judged.clicks, judged.pages)
    return [name, *map(str, (interval(judged.session_return), over, interval(judged.pages), clicks, interval(judged.days_away)))]


def _judge(env: SessionEnv, action: Floats32, n: int) -> Judged:
    return judge(env, constant(action), n_sessions=n, seed=JUDGE_SEED)
