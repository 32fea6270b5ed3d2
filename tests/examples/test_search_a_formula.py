"""The example runs; its searched formula holds up on days it was not chosen on, and in the simulator's own truth."""

from examples.search_a_formula import main


def test_the_search_holds_up_later_and_in_truth() -> None:
    found = main(n_users=300, n_trials=128)
    assert found["searched, later days"] > found["hand_set, later days"] - 0.01
    assert found["searched, reward per page"] > 0.97 * found["hand_set, reward per page"]
