"""The page that shows an evaluation: one self-contained HTML file.

Flows in: what `report.py` has computed, already as text and encoded pictures. Flows out: HTML.
Computes nothing; there is no script in the page.
"""

import base64
from pathlib import Path
from typing import Any

import jinja2


def render_page(**content: Any) -> str:
    """Fills the page; see `report.write_report` for what it needs."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_TEMPLATE).render(**content)


def inlined(file: Path | bytes | None) -> str | None:
    """A file's content for a data URL; None for None."""
    if file is None:
        return None
    content = file.read_bytes() if isinstance(file, Path) else file
    return base64.b64encode(content).decode()


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ summaries[0].label }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
 table { border-collapse: collapse } td, th { padding: .25rem .8rem; text-align: left }
 tr { border-bottom: 1px solid #ddd } img, video { max-width: 100%; margin: 1rem 0 }
 .about td { color: #555; font-size: 13px; vertical-align: top }
 pre { background: #f6f6f6; padding: 1rem }
</style></head><body>
<h1>{{ summaries[0].label }}</h1>
<table><tr>{% for title, _ in columns %}<th>{{ title }}</th>{% endfor %}</tr>
{% for s in summaries %}{% set row = loop.index0 %}<tr>
{%- for _, cells in columns %}<td>{{ cells[row] }}</td>{% endfor %}</tr>
{% endfor %}</table>
<p>Means over episodes; brackets are 95 % intervals (Wilson for rates, bootstrap for means).</p>
{% for s in summaries if s.diverged %}<p><b>{{ s.label }}: the simulation
diverged in {{ s.diverged }} episodes</b>; they count as not solved.</p>{% endfor %}
{% if comparison %}<pre>{{ comparison }}</pre>{% endif %}
<img alt="distribution of scores" src="data:image/png;base64,{{ plot }}">
{% for s in summaries if s.sub_goals %}<h2>Sub-goals
{%- if summaries|length > 1 %}: {{ s.label }}{% endif %}</h2>
<table><tr><th>reward at least</th><th>sub-goal</th><th>episodes that reached it</th></tr>
{% for r in s.sub_goals %}<tr><td>{{ r.reward }}</td><td>{{ r.name }}</td>
<td>{{ r.rate.describe(percent=True) }}</td></tr>
{% endfor %}</table>
{% endfor %}
{% for s in summaries if s.factors %}<h2>Success by initial condition
{%- if summaries|length > 1 %}: {{ s.label }}{% endif %}</h2>
<table><tr><th>factor</th><th>class</th><th>n</th><th>success</th></tr>
{% for t in s.factors %}{% for name, rate in t.rates %}<tr><td>{{ t.factor }}</td>
<td>{{ name }}</td>
<td>{{ rate.n }}</td><td>{{ rate.describe(percent=True) }}</td></tr>
{% endfor %}{% endfor %}</table>
{% endfor %}
{% if video %}<h2>Episodes</h2><p>Green frames: solved. Red frames: not solved.</p>
<video controls loop muted src="data:video/mp4;base64,{{ video }}"></video>{% endif %}
{% if failures %}<h2>Failures</h2>
<p>The first failed episodes by their ids, from the first frame to the last.</p>
{% for f in failures %}<img alt="failed episodes" src="data:image/png;base64,{{ f.sheet }}">
{% if f.video %}<video controls loop muted src="data:video/mp4;base64,{{ f.video }}"></video>
{% endif %}
{% endfor %}{% endif %}
<h2>About this evaluation</h2>
<table class="about">{% for key, value in about.items() %}
<tr><td>{{ key }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>
</body></html>
"""
