"""docs/tasks.md says of every task what the task says of itself."""

import pytest

from arp_jax.sim.tasks import TASKS, make_task
from launch import task_pages


@pytest.mark.parametrize("name", TASKS)
def test_the_page_is_up_to_date(repository, name):
    page = (repository / "docs" / "tasks.md").read_text()
    begin = page.index(f"## {name}\n")
    written = page[begin:].split("**Measured.**")[0]
    assert written == task_pages.section(name, []).split("**Measured.**")[0], (
        "run: python -m launch.task_pages --results RESULTS"
    )
    assert (repository / "docs" / "images" / "tasks" / f"{name}.png").stat().st_size > 1000
    measured = page[begin:].split("**Measured.** ")[1].splitlines()[0]
    assert "Expert:" in measured
    assert make_task(name).max_episode_steps > 0


def test_paragraphs_of_a_docstring():
    doc = "Title here,\nlong.\n\nMore words.\n\nReset: a\nb.\nAction: c.\n\nSuccess: d: e.\n"
    found = task_pages.paragraphs(doc)
    assert found["Title"] == "Title here, long."
    assert found["Reset"] == "a b."
    assert found["Success"] == "d: e."
    assert found["More"] == "More words."
