-- Stores new jobs, all or none. Every key is checked before anything is stored.
-- @include queue lanes totals indexes wake expiring
-- ARGV: now, 1 to only check for conflicts, the beginning of a namespace's keys or '', the number of records that must be
-- absent from it, their keys, then for each job: id, state, due, rev, worker, prio, batch, dest, key, valid, active,
-- record, body, digest, tally. Returns {'forbidden'} if such a record exists, {'conflict', place, owner id, …} or
-- {'ok', answer, …}. An answer is {'new'}, {'job', row}, {'grave', text} or {'same', place}. Places count from 0.
local now = tonumber(ARGV[1])
local START, WIDTH = 4 + tonumber(ARGV[4]), 15
local count = (#ARGV - START) / WIDTH
local fresh, claimed, answers, conflicts = {}, {}, {}, {}
local asked_again = false

-- One command serves many jobs: the server takes 35 µs a job, and would take 44 with a command for each job. Lua
-- passes at most 8,000 values to a command.
local AT_ONCE = 1000

-- The values that a hash of the queue has for the unique keys of these jobs, by key.
local function kept_for_keys(hash)
    local kept, keys = {}, {}
    for place = 1, count do
        local key = ARGV[START + (place - 1) * WIDTH + 9]
        if key ~= '' then
            keys[#keys + 1] = key
        end
        if #keys == AT_ONCE or (place == count and #keys > 0) then
            for at, value in ipairs(redis.call('HMGET', hash, unpack(keys))) do
                kept[keys[at]] = value
            end
            keys = {}
        end
    end
    return kept
end

local owners, graves = kept_for_keys(base .. ':keys'), kept_for_keys(base .. ':graves')

local function digest_of(place)
    return ARGV[START + (place - 1) * WIDTH + 14]
end

local function owner_of(id, key)
    if fresh[id] then
        return {'same', fresh[id] - 1}, id, digest_of(fresh[id])
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
        return {'same', place - 1}, ARGV[START + (place - 1) * WIDTH + 1], digest_of(place)
    end
    local owner = owners[key]
    if owner then
        return {'job'}, owner, redis.call('HGET', job_key(owner), 'digest')
    end
    local grave = graves[key]
    if grave then
        local ends, buried, buried_digest = string.match(grave, '^(%-?%d+)|([^|]*)|([^|]*)|')
        if now < tonumber(ends) then
            return {'grave', grave}, buried, buried_digest
        end
    end
    return nil
end

for place = 5, START do
    if standing_in(ARGV[3] .. ':values', ARGV[place], now) then
        return {'forbidden'}
    end
end

for place = 1, count do
    local first = START + (place - 1) * WIDTH
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

-- The additions to sorted sets and hashes: by command, then by key, the arguments of that command.
local additions = {ZADD = {}, HSET = {}}

local function addition(command, key, first, second)
    local arguments = additions[command][key]
    if not arguments then
        arguments = {}
        additions[command][key] = arguments
    end
    arguments[#arguments + 1] = first
    arguments[#arguments + 1] = second
end

local function zadd_later(key, score, id)
    addition('ZADD', key, score, id)
end

local function make_additions()
    for command, keys in pairs(additions) do
        for key, arguments in pairs(keys) do
            for first = 1, #arguments, 2 * AT_ONCE do
                redis.call(command, key, unpack(arguments, first, math.min(first + 2 * AT_ONCE - 1, #arguments)))
            end
        end
    end
end

local stored = false
for place = 1, count do
    local answer = answers[place]
    if answer[1] == 'job' then
        answer[2] = row_of(answer[2])
    elseif answer[1] == 'new' then
        local first = START + (place - 1) * WIDTH
        local id = ARGV[first + 1]
        local head = {
            state = ARGV[first + 2], due = ARGV[first + 3], prio = ARGV[first + 6], batch = ARGV[first + 7],
            dest = ARGV[first + 8], key = ARGV[first + 9], valid = ARGV[first + 10], active = ARGV[first + 11],
        }
        redis.call('HSET', job_key(id), 'rev', ARGV[first + 4], 'state', head.state, 'due', head.due,
            'worker', ARGV[first + 5], 'prio', head.prio, 'batch', head.batch, 'dest', head.dest, 'key', head.key,
            'valid', head.valid, 'active', head.active, 'record', ARGV[first + 12], 'body', ARGV[first + 13],
            'digest', ARGV[first + 14])
        zadd_later(base .. ':ids', 0, id)
        zadd(base .. ':dest:' .. head.dest, 0, id) -- most numbers have one job
        if head.batch ~= '' then
            zadd_later(batch_base(head.batch) .. ':ids', 0, id)
        end
        if head.key ~= '' then
            addition('HSET', base .. ':keys', head.key, id)
            if graves[head.key] then
                redis.call('HDEL', base .. ':graves', head.key)
                redis.call('ZREM', base .. ':graves:until', head.key)
            end
        end
        enter(id, head, zadd_later)
        if ARGV[first + 15] ~= '' then
            change_tally(id, head.batch, '', head.batch, ARGV[first + 15])
        end
        stored = true
    end
end
make_additions()
settle_lanes()
settle_totals()
-- After a lost answer the same jobs come again. WAITAOF waits only for writes of its own connection, so wake() writes.
if stored or asked_again then
    wake()
end
table.insert(answers, 1, 'ok')
return answers
