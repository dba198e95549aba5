"""The page `/ui/suppression`: the numbers that are not called."""

from __future__ import annotations

from collections.abc import Sequence

from voiceflow_worker.core.numbers.suppression import Suppression, SuppressionList
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest
from voiceflow_worker.webhooks.pages.routes.queries import LONGEST_NAME

NUMBERS_A_PAGE = 100


async def show_suppression(store: Store, asked: PageRequest) -> Answer:
    """The page of the suppression list, with the entries after `?after=`, or only the entry for `?number=`."""
    listed, wanted = SuppressionList(store), (asked.asked("number") or "")[:LONGEST_NAME]
    entries: Sequence[Suppression] = ()
    trouble, after = "", None
    if wanted:
        try:
            entries = list((await listed.find(wanted)).values())
        except PhoneNumberError as error:
            trouble = str(error)
    else:
        page = await listed.scan(after=(asked.asked("after") or "")[:LONGEST_NAME], limit=NUMBERS_A_PAGE + 1)
        entries = page[:NUMBERS_A_PAGE]
        after = entries[-1].number if len(page) > NUMBERS_A_PAGE else None
    shown = {"wanted": wanted, "entries": entries, "trouble": trouble, "after": after}
    return Page(template="suppression.html", shown=shown)
