"""The cards of this project's datasets say what the code says."""

import functools

import pytest

from arp_jax.data.cards import CARDS, load_card
from arp_jax.sim.tasks import TASKS
from launch import dataset_cards

NAMES = ("push_t", "push_t_planned", *TASKS)


@functools.cache
def cards_of_the_code():
    return {card.name: card for card in dataset_cards.project_cards()}


def test_every_recordable_task_has_a_card():
    assert tuple(cards_of_the_code()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_up_to_date(name):
    card = cards_of_the_code()[name]
    written = (CARDS / f"{name}.json").read_text()
    assert written == dataset_cards.card_text(card), "run: python -m launch.dataset_cards"
    # Specs of 200 dimensions are written short and come back whole.
    assert load_card(name) == card
