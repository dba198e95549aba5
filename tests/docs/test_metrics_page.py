from __future__ import annotations

import re
from collections.abc import Iterable

from tests.docs.pages import DOCS
from voiceflow_worker.backends.postgres.health import FIGURES
from voiceflow_worker.service import metrics

ROW = re.compile(r"^- `(\w+)(?:\{([\w,]+)\})?`: ", re.MULTILINE)


def test_the_page_lists_every_metric_with_its_labels_once() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    documented = [(name, tuple(labels.split(",")) if labels else ()) for name, labels in ROW.findall(page)]
    figures = [metrics.GaugeOf(f"voiceflow_store_{name}", meaning) for name, meaning in FIGURES.items()]
    named = [each for each in vars(metrics).values() if isinstance(each, metrics.Named)]
    assert sorted(documented) == sorted((each.name, tuple(each.labels)) for each in [*named, *figures])


def test_no_name_of_a_metric_stands_anywhere_else() -> None:
    assert not list(named_elsewhere())


def named_elsewhere() -> Iterable[str]:
    sources = DOCS.parent / "voiceflow_worker"
    for path in sources.rglob("*.py"):
        if path.relative_to(sources).as_posix() != "service/metrics.py":
            yield from re.findall(
                r"voiceflow_(?:queue|store|worker|webhook|ivr|hook|api|escalations|schedule)_\w+",
                path.read_text("utf-8"),
            )
