"""Number masking: two people talk through a number of the account, and neither sees the number of the other.

The program needs no account: it rehearses the menu, and calls nobody.

    python examples/number_masking.py

A driver and a customer are paired during a delivery. If one of them calls our number, the other is connected at once,
without a question. Other callers hear that nobody can be reached. In real use, `voiceflow serve --ivr
number_masking:masking` answers these calls.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from voiceflow_worker import Caller, CallFlow, End, Menu, Store, open_store
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.ivr import AfterBridge, Rehearsal

# -- pairs of people --------------------------------------------------------------------------------------------------

OURS = "+6531234567"
PAIRS = "example-masking"
"""The namespace of pairs in the store's records."""


async def pair(store: Store, one: str, other: str, *, lasts: timedelta, recording: bool = False) -> None:
    """Let two people reach each other through our number for some time."""
    values = {
        f"{OURS}/{caller}": json.dumps({"other": called, "recording": recording})
        for caller, called in ((one, other), (other, one))
    }
    await text_records(store, PAIRS, keep_for=lasts).put(values)


async def connect(caller: Caller) -> CallFlow | End:
    """Connect a caller of our number with the other person of the pair."""
    nobody = End("There is nobody to be connected to. Goodbye.")
    if caller.store is None:
        return nobody
    key = f"{caller.our_number}/{caller.number}"
    found = (await text_records(caller.store, PAIRS).get([key])).get(key)
    if found is None:
        return nobody
    pair = json.loads(found)
    return CallFlow.bridge(source=OURS, destination=pair["other"], recording=pair["recording"] or None)


masking = Menu(
    "masking",
    opening=connect,
    inbound=True,
    voice_profile="en-US-BenjaminRUS",
    fallback=End("Please try again later."),
    after_bridge=AfterBridge(busy=End("The line is busy."), no_answer=End("Nobody answers. Please try again later.")),
)

# -- the menu in use --------------------------------------------------------------------------------------------------

DRIVER, CUSTOMER, STRANGER = "+6587654321", "+6587654322", "+6587654329"
LATE_DRIVER, LATE_CUSTOMER = "+6587654323", "+6587654324"


async def main() -> None:
    """Let several people call, and print the results."""
    with TemporaryDirectory() as folder:
        async with open_store(f"sqlite:///{Path(folder) / 'calls.db'}") as store:
            await pair(store, DRIVER, CUSTOMER, lasts=timedelta(hours=1), recording=True)
            await pair(store, LATE_DRIVER, LATE_CUSTOMER, lasts=timedelta(0))  # this delivery is over
            for number in (DRIVER, CUSTOMER, STRANGER, LATE_DRIVER):
                call = Rehearsal(masking, numbers=(number, OURS), is_inbound=True, store=store)
                heard = await call.begin()
                print(
                    f"{number} called: {heard.connected_to or 'connected to nobody'}{heard.text and f'; {heard.text}'}"
                )
            call = Rehearsal(masking, numbers=(DRIVER, OURS), is_inbound=True, store=store)
            await call.begin()
            print(f"{DRIVER} called, and {CUSTOMER} was busy: {(await call.after_bridge('busy')).text}")


if __name__ == "__main__":
    asyncio.run(main())
