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

-- Whether a gate lets nothing pass. A gate is kept as 'state|until|since|reason'; an open one is not kept at all.
local function is_closed(field, now)
    local gate = redis.call('HGET', base .. ':gates', field)
    if not gate then
        return false
    end
    local state, untilled = string.match(gate, '^(%a+)|(%-?%d*)|')
    return state == 'cancelled' or untilled == '' or now < tonumber(untilled)
end

-- Gives due queued jobs to a worker: highest priority first, then earliest due, then id; gates and max_active honoured
-- in the same step.
-- @include queue indexes gates
-- ARGV: now, limit, lease ends, worker, batch or '', token. The revision of the n-th job is token.n. Answers rows.
local now, limit, ends = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local worker, only, token = ARGV[4], ARGV[5], ARGV[6]
-- Read ahead per lane: with many batches of one priority most of what is read would not be used.
local CHUNK = 16

if is_closed('queue', now) then
    return {}
end
local most = redis.call('HGET', base .. ':limits', 'max_active')
if most and most ~= '' then
    local active = redis.call('ZCARD', base .. ':state:leased')
        + redis.call('ZCOUNT', base .. ':active', '(' .. ARGV[1], '+inf')
    limit = math.min(limit, tonumber(most) - active)
end
if limit <= 0 then
    return {}
end

-- Whatever a clock that jumped ahead put aside comes back.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':lapsed', '(' .. ARGV[1], '+inf')) do
    into_lane(id, head_of(id))
    redis.call('ZREM', base .. ':lapsed', id)
end

-- The lanes that may be used, by priority.
local priorities, lanes = {}, {}
local all = redis.call('ZREVRANGE', base .. ':lanes', 0, -1, 'WITHSCORES')
for place = 1, #all, 2 do
    local batch = string.match(all[place], '^%-?%d+(.*)$')
    if (only == '' or only == batch) and (batch == '' or not is_closed('batch' .. batch, now)) then
        local priority = all[place + 1]
        if not lanes[priority] then
            priorities[#priorities + 1] = priority
            lanes[priority] = {}
        end
        table.insert(lanes[priority], {name = all[place], read = 0, ahead = {}, place = 1})
    end
end

local function first_of(lane)
    if not lane.ahead[lane.place] then
        local size = math.min(CHUNK, limit)
        lane.ahead = redis.call('ZRANGEBYSCORE', base .. ':lane:' .. lane.name, '-inf', ARGV[1], 'WITHSCORES', 'LIMIT',
            lane.read, size)
        lane.read, lane.place = lane.read + size, 1
    end
    local id = lane.ahead[lane.place]
    if id then
        return id, tonumber(lane.ahead[lane.place + 1])
    end
    return nil
end

-- Nothing is taken out of a lane while it is read: that would move what is behind.
local chosen, lapsed = {}, {}
for _, priority in ipairs(priorities) do
    while #chosen < limit do
        local best, best_id, best_due
        for _, lane in ipairs(lanes[priority]) do
            local id, due = first_of(lane)
            if id and (not best or due < best_due or (due == best_due and id < best_id)) then
                best, best_id, best_due = lane, id, due
            end
        end
        if not best then
            break
        end
        best.place = best.place + 2
        local valid = redis.call('HGET', job_key(best_id), 'valid')
        if valid ~= '' and tonumber(valid) <= now then
            lapsed[#lapsed + 1] = {best_id, best.name, valid}
        else
            chosen[#chosen + 1] = best_id
        end
    end
end

for _, late in ipairs(lapsed) do
    out_of_lane(late[1], late[2])
    redis.call('ZADD', base .. ':lapsed', late[3], late[1])
end
local rows = {}
for place, id in ipairs(chosen) do
    local head = head_of(id)
    leave(id, head)
    head.state, head.due = 'leased', ends
    enter(id, head)
    redis.call('HSET', job_key(id), 'state', 'leased', 'due', ends, 'rev', token .. '.' .. place, 'worker', worker)
    rows[place] = row_of(id)
end
return rows
