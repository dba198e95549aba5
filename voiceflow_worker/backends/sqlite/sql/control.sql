-- name: limits
-- What a queue is configured to; no row if it never was.
SELECT rate, burst, max_active FROM queues WHERE queue = ? AND configured;

-- name: configure
-- Sets a queue's limits and where it stands in its rate.
INSERT INTO queues (queue, configured, rate, burst, max_active, tat, last) VALUES (?, 1, ?, ?, ?, ?, ?)
ON CONFLICT (queue) DO UPDATE SET configured = 1, rate = excluded.rate, burst = excluded.burst,
                                  max_active = excluded.max_active, tat = excluded.tat, last = excluded.last;

-- name: pace
-- Where a queue stands in its rate.
SELECT tat, last FROM queues WHERE queue = ?;

-- name: set_pace
-- Where a configured queue stands in its rate now.
UPDATE queues SET tat = ?, last = ? WHERE queue = ?;

-- name: gate
-- One gate, if it was ever ordered.
SELECT queue, scope, name, state, until, reason, since FROM gates WHERE queue = ? AND scope = ? AND name = ?;

-- name: set_gate
-- Keeps a gate as it stands now.
INSERT OR REPLACE INTO gates (queue, scope, name, state, until, reason, since) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: gates_not_open
-- The gates of a queue and of its batches, open ones left out.
SELECT queue, scope, name, state, until, reason, since FROM gates WHERE queue = ? AND state <> 'open';
