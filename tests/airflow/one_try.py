"""One try of a task that calls people, in a process of its own: `-m` this module, in the folder of its version.

The numbers come as arguments. It prints the report.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from types import SimpleNamespace

from airflow_provider.operators.voice import VoiceCampaignOperator

if __name__ == "__main__":
    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id="t", map_index=-1, max_tries=3, try_number=1)
    ti.xcom_push = dict
    operator = VoiceCampaignOperator(
        task_id="t", rows=[{"destination": number} for number in sys.argv[1:]], say="Hello.", deferrable=False,
        poll_interval=0.2, fail_ratio=1.0, doubt_timeout=timedelta(seconds=1),
    )  # fmt: skip
    sys.stdout.write(f"{json.dumps(operator.execute({'ti': ti}))}\n")
