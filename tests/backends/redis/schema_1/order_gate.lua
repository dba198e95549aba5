-- What every script of a queue begins with: its keys all begin with KEYS[1], which holds the hash tag, so they are in
-- one slot. Optional texts are '' for none and '=' .. text; times are whole microseconds since 1970 UTC, '' for none.
local base = KEYS[1]

local function job_key(id)
    return base .. ':job:' .. id
end

-- The head of a job: what scripts may look at. The record and the body are never opened.
local function head_of(id)
    local head = redis.call('HMGET', job_key(id), 'rev', 'state', 'due', 'prio', 'batch', 'dest', 'key', 'valid', 'active')
    if not head[1] then
        return nil
    end
    return {
        rev = head[1], state = head[2], due = head[3], prio = head[4], batch = head[5], dest = head[6], key = head[7],
        valid = head[8], active = head[9],
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

-- Counts a change of the queue and wakes who waits: the stream's one entry carries the count as its id, so a reader that
-- was away asks for what is behind the count it knows and misses nothing.
local function wake()
    local count = redis.call('INCR', base .. ':changes')
    redis.call('XADD', base .. ':wake', 'MAXLEN', 1, count .. '-0', 'changes', count)
end

-- Replaces a gate if it still is what the caller merged its order with, and wakes who waits.
-- @include queue wake
-- ARGV: which gate, what it was ('' for open), what it shall be ('' for open). Answers 1, or 0 if it has changed.
if (redis.call('HGET', base .. ':gates', ARGV[1]) or '') ~= ARGV[2] then
    return 0
end
if ARGV[3] == '' then
    redis.call('HDEL', base .. ':gates', ARGV[1])
else
    redis.call('HSET', base .. ':gates', ARGV[1], ARGV[3])
end
wake()
return 1
