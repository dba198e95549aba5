"""Where an operator or a sensor hands in the one call of its task instance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider.calls.expansion import Expansion
from airflow_provider.calls.guard import executor_of, is_relative, require_lasting
from airflow_provider.calls.handing_in import OnClear, hand_in
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.request import WantedCall
from airflow_provider.calls.running import run
from airflow_provider.calls.witness import Witness

if TYPE_CHECKING:
    from airflow_provider.calls.errand import Errand
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import Job, Settings


log = logging.getLogger(__name__)


def require_lasting_store(hook: VoiceFlowHook, *, executor: str | None) -> None:
    """Raise InvalidInputError for a store that the next try of this task may not see."""
    if is_relative(hook.store_url()):
        log.warning(
            "the store %s is relative to the working directory: tasks, the triggerer and `voiceflow serve` may each "
            "see another file. Use four slashes and an absolute path",
            hook.store_url(),
        )
    require_lasting(
        hook.store_url(),
        executor=executor_of(executor, conf.get("core", "executor", fallback="") or ""),
        allowed=hook.allows_local_store(),
    )


def hand_in_at_desk(
    context: Mapping[str, Any],
    errand: Errand,
    wanted: Callable[[Settings], WantedCall],
    *,
    executor: str | None,
    on_clear: OnClear = OnClear.SAME_CALL,
) -> Job:
    """The job of the task instance that runs in this context, made if there is none; `wanted` says which call.

    Everything that can be wrong is told before anything is stored.
    """
    hook = errand.hook
    settings = hook.settings()
    require_lasting_store(hook, executor=executor)
    if errand.terms.sends:
        hook.get_client()
    witness = Witness(context)
    handing_in = partial(
        hand_in,
        wanted=wanted(settings),
        identity=TaskIdentity.of(context),
        on_clear=on_clear,
        recalled=witness.recall(),
        expansion=Expansion.of(context),
    )
    job = run(partial(errand.hand_in, handing_in))
    witness.remember({"job_id": job.id, "store": hook.store_url()})
    return job
