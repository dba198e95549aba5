"""The base of the engine: what all its parts do with a store, and what keeps them running.

| module | subject |
|---|---|
| `reading` | what is usually read of a store |
| `record_set` | sets of records with a codec |
| `round_trips` | round trips to a store: several in one, and retries |
| `shielding` | work that a cancellation of its caller does not cut |
| `identity` | ids and revisions; rules for names; the names of queues and batches |
| `background` | background tasks of a process, and the lease of a task that only one process may do |
| `probe` | whether a store can be written |
| `clock` | the clock of this machine |
"""
