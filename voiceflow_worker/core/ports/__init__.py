"""Ports of the engine: what a store, a clock and a gateway must do.

A store keeps three things in one transaction domain:

- **Jobs**: one for each call, with a head that the store indexes and a record that it does not look into.
- **Records**: small texts that may expire, in groups of a namespace: locks on numbers, opt-outs, gates, limits,
  sessions, names. A condition concerns a record or a whole group.
- **Events**: what happened to jobs, in order.

`write` is the only method that changes what callers wrote. It takes a bulk write. Each of its writes has at most one
change of a job, the records, events and counters that belong to it, and the conditions of all of them: what decided a
write is checked by the write. The other methods hand out work (`lease`), read (`jobs`, `count`, `records`, `totals`,
`events`), wait (`wait`) and tidy up (`prune`). `store` says what each of them promises; `tests/contract`
tests it.

| module | subject |
|---|---|
| `store` | the port of a store, and its other types |
| `reads` | the reads of jobs, one type for each |
| `controls` | gates, starts and limits as records |
| `outside` | the ports of a gateway, a call log and journal files |
"""

from __future__ import annotations

from voiceflow_worker.core.ports.controls import Limits as Limits
from voiceflow_worker.core.ports.outside import CallLog as CallLog
from voiceflow_worker.core.ports.outside import Placement as Placement
from voiceflow_worker.core.ports.outside import Voice as Voice
from voiceflow_worker.core.ports.store import Clock as Clock
from voiceflow_worker.core.ports.store import Event as Event
from voiceflow_worker.core.ports.store import EventKind as EventKind
from voiceflow_worker.core.ports.store import Store as Store
