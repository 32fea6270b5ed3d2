"""Every loss against an independent numpy computation, on learners small enough to redo by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.arrays import AnyArray, Floats
from fusion.policy.learner.base import FusionLearner, lambda_returns
from fusion.policy.learner.batchrl_mtf import BatchRlMtfLearner, best_of_two
from fusion.policy.learner.cql_sac import squashed_log_density
from fusion.policy.learner.iql import IqlLearner
from fusion.policy.learner.registry import algorithm
from fusion.policy.learner.unified_rl import UnifiedRlLearner, outside
from fusion.policy.networks import Actor, Bcq, Joint

N_OBS, N_PARAMS, B = 3, 2, 5
GROUPS = [2.0, 0.5]


def learner(name: str, **settings: Any) -> Any:
    """A learner of three states and two parameters with one hidden layer of four, in double precision."""
    config = algorithm(name).fusion(hidden=[4], gamma=0.9, **settings)
    built: Any = config.shaped(N_OBS, [0.0, 0.0], [1.0, 1.0], group_weights=GROUPS).debugging(seed=3).build_learner()
    built.net.double()
    return built


def batch() -> dict[str, Tensor]:
    """Five rows: the second user left, the third session was cut."""
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(B, 2))
    columns: dict[str, AnyArray] = {
        "state": rng.normal(size=(B, N_OBS)),
        "next_state": rng.normal(size=(B, N_OBS)),
        "action": rng.uniform(-1, 1, (B, N_PARAMS)),
        "rewards": rewards,
        "reward": rewards @ np.array(GROUPS),
        "terminated": np.array([0.0, 1, 0, 0, 0]),
        "baseline": rng.uniform(-0.5, 0.5, (B, N_PARAMS)),
        "next_baseline": rng.uniform(-0.5, 0.5, (B, N_PARAMS)),
        "box": np.full(B, 0.1),
    }
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def arrays(rows: dict[str, Tensor]) -> dict[str, Floats]:
    return {name: column.numpy() for name, column in rows.items()}


def joint(net: Joint, j: int, state: Floats, other: Floats) -> Floats:
    """Member `j` of a `Joint` as an ordinary MLP of the two side by side, `[B, n_out]`."""
    weights = [np.vstack([numpy(net.state_weight)[j], numpy(net.other_weight)[j]]), *(numpy(w)[j] for w in net.weights)]
    biases = [numpy(net.first_bias)[j], *(numpy(b)[j] for b in net.biases)]
    x = np.hstack([state, other])
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = np.maximum(x @ weight + bias, 0)
    out: Floats = x @ weights[-1] + biases[-1]
    return out


def actor(net: Actor, state: Floats) -> Floats:
    """What comes before the tanh."""
    x = state
    layers = [module for module in net.layers if isinstance(module, torch.nn.Linear)]
    for i, layer in enumerate(layers):
        x = x @ numpy(layer.weight).T + numpy(layer.bias)
        x = np.maximum(x, 0) if i + 1 < len(layers) else x
    return x


def numpy(tensor: Tensor) -> Floats:
    found: Floats = tensor.detach().numpy()
    return found


def noise_of(built: FusionLearner, *shapes: tuple[int, ...]) -> list[Floats]:
    """The normal numbers that the learner is about to draw."""
    generator = torch.Generator()
    generator.set_state(built.generator.get_state())
    return [numpy(torch.randn(shape, generator=generator)).astype(float) for shape in shapes]


def test_bc() -> None:
    built, x = learner("bc"), arrays(batch())
    wanted = ((np.tanh(actor(built.net.policy, x["state"])) - x["action"]) ** 2).mean()
    assert built.losses(batch())["actor"].item() == pytest.approx(wanted)


def test_td3_critics_and_actor() -> None:
    built, x = learner("td3", target_noise=0.3, noise_clip=0.2), arrays(batch())
    (noise,) = noise_of(built, (B, N_PARAMS))
    after = np.clip(np.tanh(actor(built.net.target_policy, x["next_state"])) + np.clip(0.3 * noise, -0.2, 0.2), -1, 1)
    value = np.minimum(*(joint(built.net.target_critics, j, x["next_state"], after)[:, 0] for j in (0, 1)))
    y = x["reward"] + 0.9 * (1 - x["terminated"]) * value
    found = built.losses(batch())
    wanted = sum(((joint(built.net.critics, j, x["state"], x["action"])[:, 0] - y) ** 2).mean() for j in (0, 1))
    assert found["critic"].item() == pytest.approx(wanted, rel=1e-5)
    own = np.tanh(actor(built.net.policy, x["state"]))
    assert found["actor"].item() == pytest.approx(-joint(built.net.critics, 0, x["state"], own).mean(), rel=1e-5)


def test_td3_takes_an_actor_step_every_second_update() -> None:
    built, rows = learner("td3"), {k: v.float() for k, v in batch().items()}
    built.net.float()
    assert ["actor" in built.step(rows) for _ in range(4)] == [True, False, True, False]


def test_td3_bc_weighs_values_by_their_mean_size() -> None:
    built, x = learner("td3_bc", alpha=2.0), arrays(batch())
    own = np.tanh(actor(built.net.policy, x["state"]))
    q = joint(built.net.critics, 0, x["state"], own)[:, 0]
    wanted = -2.0 * q.mean() / np.abs(q).mean() + ((own - x["action"]) ** 2).mean()
    assert built.losses(batch())["actor"].item() == pytest.approx(wanted)


def test_terminated_rows_do_not_bootstrap_and_truncated_ones_do() -> None:
    built, rows = learner("td3"), batch()
    with torch.no_grad():
        y = built.target(rows)[0].numpy()
    reward = rows["reward"].numpy()
    assert y[1] == pytest.approx(reward[1]), "the user left"
    assert abs(y[2] - reward[2]) > 1e-3, "the session was cut: its value goes on"


def test_batchrl_mtf_vae_reconstructs_and_stays_near_the_prior_without_clipping_the_code() -> None:
    built, x = learner("batchrl_mtf", kl_weight=0.7), arrays(batch())
    net: Bcq = built.net.policy
    (noise,) = noise_of(built, (B, net.n_latent))
    out = joint(net.encoder, 0, x["state"], x["action"])
    mean, log_std = out[:, : net.n_latent], np.clip(out[:, net.n_latent :], -4, 15)
    z = mean + np.exp(log_std) * noise
    assert np.abs(z).max() > 0.5, "codes beyond the sampling bound are what this tests"
    again = np.tanh(joint(net.decoder, 0, x["state"], z))
    divergence = 0.5 * (mean**2 + np.exp(2 * log_std) - 1 - 2 * log_std).mean()
    wanted = ((again - x["action"]) ** 2).mean() + 0.7 * divergence
    assert built.vae_loss(batch()["state"], batch()["action"]).item() == pytest.approx(wanted, rel=1e-5)


def test_batchrl_mtf_samples_clip_the_code_and_moves_stay_within_rho() -> None:
    net = learner("batchrl_mtf", rho=0.15).net.policy
    state, generator = batch()["state"], torch.Generator().manual_seed(5)
    z = torch.randn(B, 400, net.n_latent, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    likely = net.sample(state, 400, generator)
    assert torch.allclose(likely, net.decode(state, z.clamp(-0.5, 0.5)))
    moved = net.perturb(state, likely)
    assert (moved - likely).abs().max().item() <= 0.15 + 1e-12
    assert moved.abs().max().item() <= 1.0


def test_batchrl_mtf_aims_at_the_best_generated_action_by_the_smaller_critic() -> None:
    built, rows = learner("batchrl_mtf", n_samples=7), batch()
    built.generator.manual_seed(11)
    net, x = built.net.policy, arrays(rows)
    likely = numpy(net.sample(rows["next_state"], 7, torch.Generator().manual_seed(11)))
    values = np.full((B, 7), np.nan)
    for k in range(7):
        moved = likely[:, k] + 0.15 * np.tanh(joint(built.net.target_perturbation, 0, x["next_state"], likely[:, k]))
        moved = np.clip(moved, -1, 1)
        values[:, k] = np.minimum(*(joint(built.net.target_critics, j, x["next_state"], moved)[:, 0] for j in (0, 1)))
    wanted = x["reward"] + 0.9 * (1 - x["terminated"]) * values.max(1)
    assert built.target(rows)[0].numpy() == pytest.approx(wanted)


def test_batchrl_mtf_perturbation_climbs_the_first_critic_and_nothing_else_moves() -> None:
    built, rows = learner("batchrl_mtf"), batch()
    assert isinstance(built, BatchRlMtfLearner)
    net = built.net.policy
    loss = built.losses(rows)["perturbation"]
    torch.autograd.backward(loss)
    assert all(p.grad is not None for p in net.perturbation.parameters())
    assert all(p.grad is None for p in [*net.critics.parameters(), *net.decoder.parameters()])


def test_best_of_two_is_the_largest_minimum() -> None:
    torch.manual_seed(0)
    nets = Joint(N_OBS, N_PARAMS, [8], 1, 2)
    with torch.no_grad():
        for n, k in [(40, 10)] * 20 + [(40, 1), (1, 3), (0, 10)]:
            state, tries = torch.randn(n, N_OBS), torch.rand(n, k, N_PARAMS) * 2 - 1
            plain = nets(state, tries)[..., 0].amin(0).amax(1)
            assert torch.allclose(best_of_two(nets, state, tries), plain, atol=1e-6)


def test_batchrl_mtf_asks_no_network_about_what_follows_a_left_session() -> None:
    built, rows = learner("batchrl_mtf", n_samples=7), batch()
    rows["next_state"][rows["terminated"] == 1] = torch.nan
    with torch.no_grad():
        assert torch.isfinite(built.target(rows)).all()
        rows["terminated"] = torch.ones_like(rows["terminated"])
        assert built.target(rows).tolist() == [rows["reward"].tolist()]


def test_unified_rl_critics_aim_at_their_own_groups_reward_discounted_outside_the_box() -> None:
    built, x = learner("unified_rl", n_critics=3), arrays(batch())
    built.prepare(batch())
    shift = np.maximum(0, -x["rewards"].min(0))
    after = np.tanh(actor(built.net.target_policy, x["next_state"]))
    beyond = np.maximum(np.abs(after - x["next_baseline"]) - 0.1, 0)
    phi = np.exp(-np.sqrt((beyond**2).sum(1)) / 0.15)
    assert phi.min() < 0.99, "some action lies outside"
    loss = 0.0
    for i in range(2):
        for j in range(3):
            after_q = joint(built.net.target_critics, 3 * i + j, x["next_state"], after)[:, 0]
            y = x["rewards"][:, i] + shift[i] + 0.9 * (1 - x["terminated"]) * phi * after_q
            loss += ((joint(built.net.critics, 3 * i + j, x["state"], x["action"])[:, 0] - y) ** 2).mean()
    assert built.losses(batch())["critic"].item() == pytest.approx(loss, rel=1e-5)


def test_unified_rl_actor_pays_for_distance_and_for_disagreement() -> None:
    built, x = learner("unified_rl", n_critics=3, eta=4.0, lambda_=0.5), arrays(batch())
    own = np.tanh(actor(built.net.policy, x["state"]))
    q = np.array([[joint(built.net.critics, 3 * i + j, x["state"], own)[:, 0] for j in range(3)] for i in range(2)])
    weights = np.array(GROUPS)[:, None]
    away = (np.maximum(np.abs(own - x["baseline"]) - 0.1, 0) ** 2).sum(1)
    wanted = (-(weights * q.mean(1)).sum(0) + 4.0 * away + 0.5 * (weights * q.std(1)).sum(0)).mean()
    assert built.losses(batch())["actor"].item() == pytest.approx(wanted, rel=1e-5)


def test_unified_rl_shifts_rewards_to_be_non_negative() -> None:
    built = learner("unified_rl")
    assert isinstance(built, UnifiedRlLearner)
    built.prepare(batch())
    assert built.rewards(batch()).min().item() == pytest.approx(0.0, abs=1e-7)


def test_unified_rl_box_distance_by_hand() -> None:
    center, half = torch.zeros(3, 2), torch.full((3, 1), 0.15)
    action = torch.tensor([[0.15, -0.15], [0.25, 0.0], [0.45, -0.55]])
    assert outside(action, center, half).numpy() == pytest.approx([0.0, 0.1, 0.5], abs=1e-6)


def test_iql_values_lean_to_better_actions_and_the_actor_follows_advantages() -> None:
    built, x = learner("iql", expectile=0.8, inverse_temperature=2.0), arrays(batch())
    assert isinstance(built, IqlLearner)
    state = x["state"]
    layers = [module for module in built.net.value if isinstance(module, torch.nn.Linear)]

    def q_of(net: Any, j: int) -> Floats:
        return joint(net, j, x["state"], x["action"])[:, 0]

    def value(s: Floats) -> Floats:
        hidden = np.maximum(s @ numpy(layers[0].weight).T + numpy(layers[0].bias), 0)
        found: Floats = (hidden @ numpy(layers[1].weight).T + numpy(layers[1].bias))[:, 0]
        return found

    target_q = np.minimum(q_of(built.net.target_critics, 0), q_of(built.net.target_critics, 1))
    v, v_after = value(state), value(x["next_state"])
    gap = target_q - v
    found = built.losses(batch())
    assert found["value"].item() == pytest.approx((np.where(gap < 0, 0.2, 0.8) * gap**2).mean())
    y = x["reward"] + 0.9 * (1 - x["terminated"]) * v_after
    assert found["critic"].item() == pytest.approx(sum(((q_of(built.net.critics, j) - y) ** 2).mean() for j in (0, 1)))
    own = np.tanh(actor(built.net.policy, state))
    weight = np.minimum(np.exp(2.0 * gap), 100)
    assert found["actor"].item() == pytest.approx((weight * ((own - x["action"]) ** 2).mean(1)).mean())


def test_cql_sac_pushes_down_what_nobody_did() -> None:
    built, x = learner("cql_sac", conservative=3.0, n_actions=2, temperature=0.2), arrays(batch())
    generator = torch.Generator()
    generator.set_state(built.generator.get_state())

    def draw(state: Floats, k: int) -> tuple[Floats, Floats]:
        raw = actor(built.net.policy, state)
        mean, std = raw[:, None, :2], np.exp(np.clip(raw[:, None, 2:], -5, 2))
        before = mean + std * numpy(torch.randn(B, k, 2, generator=generator))
        normal = -0.5 * ((before - mean) / std) ** 2 - np.log(std) - 0.5 * math.log(2 * math.pi)
        return np.tanh(before), (normal - np.log(1 - np.tanh(before) ** 2)).sum(-1)

    def q(net: Joint, j: int, state: Floats, action: Floats) -> Floats:
        return joint(net, j, state, action)[:, 0]

    own, own_density = draw(x["state"], 1)
    after, _ = draw(x["next_state"], 1)
    uniform = numpy(torch.rand(B, 2, 2, generator=generator)) * 2 - 1
    mine, mine_density = draw(x["state"], 2)
    later, later_density = draw(x["next_state"], 2)
    value = np.minimum(*(q(built.net.target_critics, j, x["next_state"], after[:, 0]) for j in (0, 1)))
    y = x["reward"] + 0.9 * (1 - x["terminated"]) * value
    tries = np.concatenate([uniform, mine, later], 1)
    density = np.concatenate([np.full((B, 2), -2 * math.log(2)), mine_density, later_density], 1)
    critic = 0.0
    for j in (0, 1):
        logged = q(built.net.critics, j, x["state"], x["action"])
        others = np.stack([q(built.net.critics, j, x["state"], tries[:, k]) for k in range(6)], 1)
        push = np.log(np.exp(others - density).mean(1)) - logged
        critic += (0.5 * (logged - y) ** 2).mean() + 3.0 * push.mean()
    found = built.losses(batch())
    assert found["critic"].item() == pytest.approx(critic, rel=1e-4)
    judged = np.minimum(*(q(built.net.critics, j, x["state"], own[:, 0]) for j in (0, 1)))
    assert found["actor"].item() == pytest.approx((0.2 * own_density[:, 0] - judged).mean(), rel=1e-4)


def test_squashed_density_integrates_to_one() -> None:
    action = torch.linspace(-0.9999, 0.9999, 20001, dtype=torch.float64)[:, None]
    density = squashed_log_density(torch.atanh(action), torch.tensor([[0.3]]), torch.tensor([[-0.5]])).exp()
    assert torch.trapezoid(density, action[:, 0]).item() == pytest.approx(1.0, abs=1e-3)


def test_lambda_returns_by_hand() -> None:
    reward = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    value = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    terminated, session = torch.tensor([0.0, 0.0, 1.0, 0.0]), torch.tensor([5, 5, 5, 6])
    one_step, half, full = (
        lambda_returns(reward, value, terminated, session, gamma=0.5, trace=t)[0].tolist() for t in (0.0, 0.5, 1.0)
    )
    assert one_step == [6.0, 12.0, 3.0, 24.0], "0 is the one-step target; the third user left, the fourth session was cut"
    assert full == [2.75, 3.5, 3.0, 24.0], "1 is the logged return"
    assert half == pytest.approx([1 + 0.5 * (5 + 0.5 * 7.75), 2 + 0.5 * (10 + 1.5), 3.0, 24.0])


@pytest.mark.parametrize("name", ["td3", "batchrl_mtf", "unified_rl", "cql_sac", "iql"])
def test_critics_with_a_form_learn_too(name: str) -> None:
    built = learner(name, critic="direction", gate=[0, 2])
    built.net.float()
    rows = {key: column.float() for key, column in batch().items()}
    first = float(built.step(rows)["critic"])
    for _ in range(80):
        last = float(built.step(rows)["critic"])
    assert last < first
