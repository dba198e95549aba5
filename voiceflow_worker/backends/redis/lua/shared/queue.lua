-- The jobs of one queue, their indexes and counters. `base` is the beginning of the queue's keys.
local base

local function base_of(queue)
    return root .. ':queue:' .. queue
end

local function batch_base(batch)
    return base .. ':batch:' .. batch
end

local function job_key(id)
    return base .. ':job:' .. id
end

-- The head of a job: the fields that scripts read. No script decodes the record or the body.
local function head_of(id)
    local head = redis.call('HMGET', job_key(id), 'state', 'due', 'prio', 'batch', 'dest', 'key', 'valid', 'active',
        'outcome', 'worker')
    if not head[1] then
        return nil
    end
    return {
        state = head[1], due = head[2], prio = head[3], batch = head[4], dest = head[5], key = head[6],
        valid = head[7], active = head[8], outcome = head[9], worker = head[10],
    }
end

-- The row of a job, with its fields in the order that codec.py expects.
local function row_of(id)
    local row = redis.call('HMGET', job_key(id), 'state', 'due', 'rev', 'worker', 'prio', 'batch', 'dest', 'key', 'valid',
        'active', 'digest', 'record', 'body')
    if not row[1] then
        return nil
    end
    table.insert(row, 1, id)
    return row
end

-- The tombstone that keeps a unique key taken, or nil. It is stored as 'end|tombstone'.
local function tombstone_of(key, now)
    local tombstone = redis.call('HGET', root .. ':tombstones', key)
    if tombstone and now < tonumber(string.match(tombstone, '^(%-?%d+)|')) then
        return tombstone
    end
    return nil
end
