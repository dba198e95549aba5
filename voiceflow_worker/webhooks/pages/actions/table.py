"""The table of all actions."""

from __future__ import annotations

from collections.abc import Mapping

from voiceflow_worker.webhooks.pages.actions.action import ActingStore, PageAction
from voiceflow_worker.webhooks.pages.actions.batch_redials import RedialBatchAction
from voiceflow_worker.webhooks.pages.actions.calls import CancelCallAction, RedialAction
from voiceflow_worker.webhooks.pages.actions.holds import CancelBatchAction, HoldAction, ResumeAction
from voiceflow_worker.webhooks.pages.actions.resolving import ResolveAction
from voiceflow_worker.webhooks.pages.actions.suppressing import ImportNumbersAction, SuppressAction, UnsuppressAction

ACTIONS: tuple[type[PageAction], ...] = (
    HoldAction, ResumeAction, CancelBatchAction, CancelCallAction, RedialAction, RedialBatchAction,
    ResolveAction, SuppressAction, UnsuppressAction, ImportNumbersAction,
)  # fmt: skip


def all_actions(acting: ActingStore) -> Mapping[str, PageAction]:
    """All actions by their names. The name of an action is the last part of its address."""
    return {action.name: action(acting) for action in ACTIONS}
