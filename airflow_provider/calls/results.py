"""The results of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from voiceflow_worker import call_as_json

if TYPE_CHECKING:
    from voiceflow_worker import Job


def call_result(job: Job) -> dict[str, Any]:
    """Return the call as JSON. Its outcome is there once, and not again with the attempt that it is from."""
    result: dict[str, Any] = call_as_json(job)
    attempts = cast("list[dict[str, Any]]", result["attempts"])
    if attempts and attempts[-1]["outcome"] == result["outcome"]:
        del attempts[-1]["outcome"]
    return result
