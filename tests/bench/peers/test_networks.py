"""The compared networks have the sizes they claim, and the data has something to learn."""

import json

import numpy as np

from bench.peers.networks import NETWORKS, TASKS, VOCABULARIES, Network, make_columns


def test_sizes_are_22_thousand_and_one_million() -> None:
    for name, network in NETWORKS.items():
        goal = 22_000 if name.startswith("small") else 1_000_000
        assert abs(network.dense_parameters / goal - 1) < 0.08, name


def test_a_network_survives_json() -> None:
    for network in NETWORKS.values():
        assert Network.from_json(json.loads(json.dumps(network.to_json()))) == network


def test_columns_are_seeded_and_the_labels_depend_on_them() -> None:
    columns, again = make_columns(20_000, seed=3), make_columns(20_000, seed=3)
    assert all(np.array_equal(columns[name], again[name]) for name in columns)
    for i, size in enumerate(VOCABULARIES):
        assert 0 <= columns[f"sparse_{i}"].min() <= columns[f"sparse_{i}"].max() < size
    for task in TASKS:
        assert 0.1 < columns[task].mean() < 0.6
        by_id = [columns[task][columns["sparse_0"] == i].mean() for i in range(4)]
        assert np.ptp(by_id) > 0.03
