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

-- The indexes that follow a job's state. A lane holds the queued jobs of one priority and one batch by due time, so that
-- neither a closed batch nor a later priority is ever read through. `lapsed` keeps queued jobs whose validity has passed
-- out of the lanes until the sweep takes them.
local function batch_base(batch)
    return base .. ':batch:' .. batch
end

local function lane_of(head)
    return head.prio .. head.batch
end

local function into_lane(id, head)
    local lane = lane_of(head)
    redis.call('ZADD', base .. ':lane:' .. lane, head.due, id)
    redis.call('ZADD', base .. ':lanes', head.prio, lane)
end

local function out_of_lane(id, lane)
    redis.call('ZREM', base .. ':lane:' .. lane, id)
    if redis.call('EXISTS', base .. ':lane:' .. lane) == 0 then
        redis.call('ZREM', base .. ':lanes', lane)
    end
end

local function enter(id, head)
    redis.call('ZADD', base .. ':state:' .. head.state, head.due, id)
    if head.batch ~= '' then
        redis.call('ZADD', batch_base(head.batch) .. ':state:' .. head.state, head.due, id)
    end
    if head.state == 'queued' then
        into_lane(id, head)
        if head.valid ~= '' then
            redis.call('ZADD', base .. ':valid', head.valid, id)
        end
    end
    -- Leased jobs are counted by their state: here they would count twice.
    if head.active ~= '' and head.state ~= 'leased' then
        redis.call('ZADD', base .. ':active', head.active, id)
    end
end

local function leave(id, head)
    redis.call('ZREM', base .. ':state:' .. head.state, id)
    if head.batch ~= '' then
        redis.call('ZREM', batch_base(head.batch) .. ':state:' .. head.state, id)
    end
    if head.state == 'queued' then
        out_of_lane(id, lane_of(head))
        if head.valid ~= '' then
            redis.call('ZREM', base .. ':valid', id)
            redis.call('ZREM', base .. ':lapsed', id)
        end
    end
    if head.active ~= '' and head.state ~= 'leased' then
        redis.call('ZREM', base .. ':active', id)
    end
end

-- Counts a change of the queue and wakes who waits: the stream's one entry carries the count as its id, so a reader that
-- was away asks for what is behind the count it knows and misses nothing.
local function wake()
    local count = redis.call('INCR', base .. ':changes')
    redis.call('XADD', base .. ':wake', 'MAXLEN', 1, count .. '-0', 'changes', count)
end

-- Makes moves of jobs, each only from the revision it was made from, together with its events.
-- @include queue indexes wake
-- ARGV: per move: id, old rev, new rev, state, due, worker, active, record, rare, then, if rare is 1: prio, batch, dest,
-- valid; then the number of events and, per event: at, text. Answers 1 (made, now or before) or 0 for each.
local results = {}
local at = 1
local wakes = false

local function take(count)
    at = at + count
    return unpack(ARGV, at - count, at - 1)
end

local function move_dest(id, from, to)
    redis.call('ZREM', base .. ':dest:' .. from, id)
    redis.call('ZADD', base .. ':dest:' .. to, 0, id)
end

local function move_batch(id, from, to)
    if from ~= '' then
        redis.call('ZREM', batch_base(from) .. ':ids', id)
    end
    if to ~= '' then
        redis.call('ZADD', batch_base(to) .. ':ids', 0, id)
    end
end

while at <= #ARGV do
    local id, old_rev, rev, state, due, worker, active, record, rare = take(9)
    local prio, batch, dest, valid
    if rare == '1' then
        prio, batch, dest, valid = take(4)
    end
    local events = tonumber(take(1))
    local head = head_of(id)
    if not head or (head.rev ~= old_rev and head.rev ~= rev) then
        results[#results + 1] = 0
        at = at + 2 * events
    elseif head.rev == rev then
        -- Made before, and its answer was lost. Written again so that this connection has something to wait for
        -- (WAITAOF): what another connection wrote it would not wait for.
        redis.call('HSET', job_key(id), 'rev', rev)
        results[#results + 1] = 1
        at = at + 2 * events
    else
        leave(id, head)
        head.state, head.due, head.active = state, due, active
        if rare == '1' then
            if head.dest ~= dest then
                move_dest(id, head.dest, dest)
            end
            if head.batch ~= batch then
                move_batch(id, head.batch, batch)
            end
            head.prio, head.batch, head.dest, head.valid = prio, batch, dest, valid
            redis.call('HSET', job_key(id), 'prio', prio, 'batch', batch, 'dest', dest, 'valid', valid)
        end
        enter(id, head)
        redis.call('HSET', job_key(id), 'state', state, 'due', due, 'rev', rev, 'worker', worker, 'active', active,
            'record', record)
        for _ = 1, events do
            local time, text = take(2)
            local sequence = redis.call('INCR', base .. ':sequence')
            redis.call('ZADD', base .. ':events', sequence, sequence .. '|' .. text)
            redis.call('ZADD', base .. ':events:at', time, sequence)
        end
        wakes = wakes or state == 'queued'
        results[#results + 1] = 1
    end
end
if wakes then
    wake()
end
return results
