"""Links from a task instance to the page of its call or batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

XCOM_KEY = "voiceflow_call"


class VoiceCallLink(BaseOperatorLink):
    """The link from a task to its call or batch on the pages of `voiceflow serve`.

    The address of the pages is `ui_url` in the extra of the connection. Without it, the task has no link.
    """

    name = "Phone call"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 (Airflow's signature)
        """Return the address that the task stored, or an empty string."""
        stored = XCom.get_value(key=XCOM_KEY, ti_key=ti_key)
        return str(stored or "")


class VoiceBatchLink(VoiceCallLink):
    """The link from a campaign task to the page of its batch."""

    name = "Calls of the batch"


def store_no_link(context: Mapping[str, Any]) -> None:
    """Store an empty address, before anything can fail: Airflow logs an error if the link finds no value."""
    context["ti"].xcom_push(key=XCOM_KEY, value="")


def store_link(
    context: Mapping[str, Any],
    *,
    ui_url: str | None,
    job_id: str | None = None,
    batch_id: str | None = None,
    queue: str = "default",
) -> None:
    """Store the address of a call, or of a batch in `queue`, for the link, if there is a `ui_url`."""
    if ui_url is None:
        return
    page = ui_url if ui_url.endswith("/ui") else f"{ui_url}/ui"
    place = f"calls/{quote(job_id, safe='')}" if job_id else f"batches/{quote(batch_id or '', safe='')}?queue={queue}"
    context["ti"].xcom_push(key=XCOM_KEY, value=f"{page}/{place}")
