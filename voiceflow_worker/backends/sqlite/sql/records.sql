-- name: put_record
-- Stores a record, and replaces an older one.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at;

-- name: put_record_if_absent
-- Stores a record if its key is free at a time. A record that already has the same value gets the new expiry. Returns
-- the key, unless it has another value.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
    WHERE records.expires_at <= ?5 OR records.value = excluded.value
RETURNING key;

-- name: record
-- The record under a key, if it has not expired at a time.
SELECT key, value FROM records WHERE namespace = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?);

-- name: any_record
-- Whether a namespace has any records, expired ones included.
SELECT 1 FROM records WHERE namespace = ? LIMIT 1;

-- name: scan_records
-- Records between two keys that have not expired at a time, in order.
SELECT key, value FROM records
WHERE namespace = ? AND key > ? AND key >= ? AND (?4 IS NULL OR key < ?4) AND (expires_at IS NULL OR expires_at > ?5)
ORDER BY key LIMIT ?6;

-- name: delete_record
-- Deletes a record; if a value is given, only a record that has it.
DELETE FROM records WHERE namespace = ?1 AND key = ?2 AND (?3 IS NULL OR value = ?3);

-- name: prune_records
-- Deletes some expired records.
DELETE FROM records WHERE (namespace, key) IN (
    SELECT namespace, key FROM records INDEXED BY records_by_expiry WHERE expires_at <= ? LIMIT ?
)
RETURNING 1;

-- name: prune_tombstones
-- Deletes some expired tombstones, which frees their keys.
DELETE FROM tombstones WHERE (queue, unique_key) IN (
    SELECT queue, unique_key FROM tombstones INDEXED BY tombstones_by_expiry WHERE expires_at <= ? LIMIT ?
)
RETURNING 1;
