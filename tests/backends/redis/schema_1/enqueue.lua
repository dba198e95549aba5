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

-- Stores new jobs, all or none: every key is checked before anything is stored, and nobody runs in between.
-- @include queue indexes wake
-- ARGV: now, 1 to only look for conflicts, then per job: id, state, due, rev, worker, prio, batch, dest, key, valid, active, record, body, digest.
-- Answers {'conflict', place, owner id, …} or {'ok', answer, …}, each answer one of {'new'}, {'job', row},
-- {'grave', text} or {'same', place}; places count from 0.
local now = tonumber(ARGV[1])
local WIDTH = 14
local count = (#ARGV - 2) / WIDTH
local fresh, claimed, answers, conflicts = {}, {}, {}, {}
local asked_again = false

local function owner_of(id, key)
    if fresh[id] then
        return {'same', fresh[id] - 1}, id, ARGV[fresh[id] * WIDTH + 2]
    end
    local digest = redis.call('HGET', job_key(id), 'digest')
    if digest then
        asked_again = true
        return {'job'}, id, digest
    end
    if key == '' then
        return nil
    end
    if claimed[key] then
        local place = claimed[key]
        return {'same', place - 1}, ARGV[(place - 1) * WIDTH + 3], ARGV[place * WIDTH + 2]
    end
    local owner = redis.call('HGET', base .. ':keys', key)
    if owner then
        return {'job'}, owner, redis.call('HGET', job_key(owner), 'digest')
    end
    local grave = redis.call('HGET', base .. ':graves', key)
    if grave then
        local ends, buried, buried_digest = string.match(grave, '^(%-?%d+)|([^|]*)|([^|]*)|')
        if now < tonumber(ends) then
            return {'grave', grave}, buried, buried_digest
        end
    end
    return nil
end

for place = 1, count do
    local first = (place - 1) * WIDTH + 2
    local id, key, digest = ARGV[first + 1], ARGV[first + 9], ARGV[first + 14]
    local answer, owner, owner_digest = owner_of(id, key)
    if not answer then
        fresh[id] = place
        if key ~= '' then
            claimed[key] = place
        end
        answers[place] = {'new'}
    else
        if key ~= '' and owner_digest ~= digest then
            conflicts[#conflicts + 1] = place - 1
            conflicts[#conflicts + 1] = owner
        end
        if answer[1] == 'job' then
            answer[2] = owner
        end
        answers[place] = answer
    end
end

if #conflicts > 0 then
    table.insert(conflicts, 1, 'conflict')
    return conflicts
end
if ARGV[2] == '1' then
    return {'ok'}
end

local stored = false
for place = 1, count do
    local answer = answers[place]
    if answer[1] == 'job' then
        answer[2] = row_of(answer[2])
    elseif answer[1] == 'new' then
        local first = (place - 1) * WIDTH + 2
        local id = ARGV[first + 1]
        local head = {
            state = ARGV[first + 2], due = ARGV[first + 3], prio = ARGV[first + 6], batch = ARGV[first + 7],
            dest = ARGV[first + 8], key = ARGV[first + 9], valid = ARGV[first + 10], active = ARGV[first + 11],
        }
        redis.call('HSET', job_key(id), 'state', head.state, 'due', head.due, 'rev', ARGV[first + 4],
            'worker', ARGV[first + 5], 'prio', head.prio, 'batch', head.batch, 'dest', head.dest, 'key', head.key,
            'valid', head.valid, 'active', head.active, 'record', ARGV[first + 12], 'body', ARGV[first + 13],
            'digest', ARGV[first + 14])
        redis.call('ZADD', base .. ':ids', 0, id)
        redis.call('ZADD', base .. ':dest:' .. head.dest, 0, id)
        if head.batch ~= '' then
            redis.call('ZADD', batch_base(head.batch) .. ':ids', 0, id)
        end
        if head.key ~= '' then
            redis.call('HSET', base .. ':keys', head.key, id)
            if redis.call('HDEL', base .. ':graves', head.key) == 1 then
                redis.call('ZREM', base .. ':graves:until', head.key)
            end
        end
        enter(id, head)
        stored = true
    end
end
-- Asked again after a lost answer, this connection must have something to wait for (WAITAOF): hence a write.
if stored or asked_again then
    wake()
end
table.insert(answers, 1, 'ok')
return answers
