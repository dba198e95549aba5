-- name: put_record
-- Stores a record, replacing what is there.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at;

-- name: put_record_if_absent
-- Stores a record where none stands at a time, or the same one: that gets the new expiry. Answers with its key if so.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
    WHERE records.expires_at <= ? OR records.value = excluded.value
RETURNING key;

-- name: record
-- The record under a key that stands at a time.
SELECT key, value FROM records WHERE namespace = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?);

-- name: any_record
-- Whether a namespace has any records, ended ones included.
SELECT 1 FROM records WHERE namespace = ? LIMIT 1;

-- name: scan_records
-- Records behind one key and before another that stand at a time, in order.
SELECT key, value FROM records
WHERE namespace = ? AND key > ? AND key >= ? AND (?4 IS NULL OR key < ?4) AND (expires_at IS NULL OR expires_at > ?5)
ORDER BY key LIMIT ?6;

-- name: delete_record
-- Deletes a record, where a value is given only while it is the one that stands.
DELETE FROM records WHERE namespace = ?1 AND key = ?2 AND (?3 IS NULL OR value = ?3);

-- name: prune_records
-- Drops some records whose time has passed.
DELETE FROM records WHERE (namespace, key) IN (
    SELECT namespace, key FROM records INDEXED BY records_by_expiry WHERE expires_at <= ? LIMIT ?
)
RETURNING 1;

-- name: prune_tombstones
-- Frees some keys of deleted jobs whose time has passed.
DELETE FROM tombstones WHERE (queue, unique_key) IN (
    SELECT queue, unique_key FROM tombstones INDEXED BY tombstones_by_expiry WHERE expires_at <= ? LIMIT ?
)
RETURNING 1;
