-- Statements of `write`: the conditions of a unit, and its parts. Moves, inserts and deletions are in jobs.sql.

-- name: standing
-- The record under a key, if it stands at a time.
SELECT key, value, expires_at FROM records WHERE namespace = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?);

-- name: is_taken
-- A row if a job has this id, or if a job or a tombstone of the queue has this unique key.
SELECT 1 FROM jobs WHERE id = ?1
UNION ALL
SELECT 1 FROM jobs WHERE queue = ?2 AND unique_key = ?3
UNION ALL
SELECT 1 FROM tombstones WHERE queue = ?2 AND unique_key = ?3
LIMIT 1;

-- name: standing_with_prefix
-- The records between two keys that stand at a time, by their ends.
SELECT key, value, expires_at FROM records
WHERE namespace = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) AND (expires_at IS NULL OR expires_at > ?4)
ORDER BY expires_at IS NULL, expires_at;

-- name: page
-- The records between two keys that stand at a time, in order, after a key.
SELECT key, value, expires_at FROM records
WHERE namespace = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) AND key > ?4 AND (expires_at IS NULL OR expires_at > ?5)
ORDER BY key LIMIT ?6;

-- name: put_extend
-- Stores a record; the later of its end and that of a record that stands at a time counts.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = CASE
        WHEN records.expires_at IS NULL OR excluded.expires_at IS NULL THEN NULL
        WHEN records.expires_at > ?5 THEN max(records.expires_at, excluded.expires_at)
        ELSE excluded.expires_at
    END;

-- name: put_keep
-- Stores a record, unless one stands under its key at a time.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
    WHERE records.expires_at <= ?5;

-- name: put_longer
-- Stores a record, unless one stands under its key at a time that ends no earlier.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
    WHERE records.expires_at <= ?5 OR (records.expires_at IS NOT NULL AND excluded.expires_at IS NULL)
        OR records.expires_at < excluded.expires_at;

-- name: prune_events
-- Deletes some events of a queue from before a time.
DELETE FROM events WHERE sequence IN (SELECT sequence FROM events WHERE queue = ? AND at < ? LIMIT ?)
RETURNING 1;

-- name: prune_tombstones
-- Deletes some expired tombstones of a queue, which frees their keys.
DELETE FROM tombstones WHERE (queue, unique_key) IN (
    SELECT queue, unique_key FROM tombstones WHERE queue = ? AND expires_at <= ? LIMIT ?
)
RETURNING 1;

-- name: drop_gate
-- Deletes a gate, whose record was dropped.
DELETE FROM gates WHERE queue = ? AND scope = ? AND name = ?;
