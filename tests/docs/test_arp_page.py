"""The worked example of docs/arp.md runs as it stands, and prints what the page says."""

import re


def test_worked_example_runs(repository, capsys):
    page = (repository / "docs" / "arp.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/arp.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    shown = re.search(r"```text\n(.*?)```", page, flags=re.DOTALL)[1].splitlines()
    for line in shown:
        assert line == "..." or line in printed, line
