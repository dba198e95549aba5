-- What every script of a queue begins with: its keys all begin with KEYS[1], which holds the hash tag, so they are in
-- one slot. Optional texts are '' for none and '=' .. text; times are whole microseconds since 1970 UTC, '' for none.
local base = KEYS[1]

local function job_key(id)
    return base .. ':job:' .. id
end

-- The head of a job: what scripts may look at. The record and the body are never opened.
local function head_of(id)
    local head = redis.call('HMGET', job_key(id), 'rev', 'state', 'due', 'prio', 'batch', 'dest', 'key', 'valid', 'active',
        'tally')
    if not head[1] then
        return nil
    end
    return {
        rev = head[1], state = head[2], due = head[3], prio = head[4], batch = head[5], dest = head[6], key = head[7],
        valid = head[8], active = head[9], tally = head[10] or '',
    }
end

-- The whole job as the caller reads it, in the order that codec.py expects.
local function row_of(id)
    local row = redis.call('HMGET', job_key(id), 'state', 'due', 'rev', 'worker', 'prio', 'batch', 'dest', 'key', 'valid',
        'active', 'record', 'body')
    if not row[1] then
        return nil
    end
    table.insert(row, 1, id)
    return row
end
