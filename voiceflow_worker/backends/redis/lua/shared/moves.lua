-- Moves of jobs, read from ARGV. A move is: id, old rev, new rev, state, due, worker, active, record, tally, rare;
-- if rare is 1: prio, batch, dest, valid; then the number of events and, for each event: at, text.
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

-- Makes the move at `at` if the job still has the old revision, and stores its events. A move that is not `wanted` is only
-- passed over. Returns 1 (made, now or before), 0 (the job has another revision) or 2 (not wanted).
local function make_move(wanted)
    local id, old_rev, rev, state, due, worker, active, record, tally, rare = take(10)
    local prio, batch, dest, valid
    if rare == '1' then
        prio, batch, dest, valid = take(4)
    end
    local events = tonumber(take(1))
    local head = head_of(id)
    if not head or (head.rev ~= old_rev and head.rev ~= rev) then
        at = at + 2 * events
        return 0
    end
    if head.rev == rev then
        -- The move was made before, and its answer was lost. A field is written again, because WAITAOF waits only for
        -- the writes of its own connection.
        redis.call('HSET', job_key(id), 'rev', rev)
        at = at + 2 * events
        return 1
    end
    if not wanted then
        at = at + 2 * events
        return 2
    end
    local was_batch = head.batch
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
    enter(id, head, zadd)
    redis.call('HSET', job_key(id), 'state', state, 'due', due, 'rev', rev, 'worker', worker, 'active', active,
        'record', record)
    change_tally(id, was_batch, head.tally, head.batch, tally)
    for _ = 1, events do
        local time, text = take(2)
        local sequence = redis.call('INCR', base .. ':sequence')
        redis.call('ZADD', base .. ':events', sequence, sequence .. '|' .. text)
        redis.call('ZADD', base .. ':events:at', time, sequence)
    end
    wakes = wakes or state == 'queued'
    return 1
end

-- Must be called after the last move.
local function end_moves()
    settle_lanes()
    settle_totals()
    if wakes then
        wake()
    end
end
