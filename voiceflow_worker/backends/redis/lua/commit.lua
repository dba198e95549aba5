-- Makes moves of jobs and stores their events. A move is made only if the job still has the old revision.
-- @include packed queue lanes totals indexes orphans wake
-- ARGV: for each move: id, old rev, new rev, state, due, worker, active, record, tally, facts, rare; if rare is 1: prio,
-- batch, dest, valid; then the number of events and, for each event: at, text. Returns 1 (made, now or before) or 0 for
-- each move.
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
    local id, old_rev, rev, state, due, worker, active, record, tally, facts, rare = take(11)
    local prio, batch, dest, valid
    if rare == '1' then
        prio, batch, dest, valid = take(4)
    end
    local events = tonumber(take(1))
    local head = head_of(id)
    if not head or (head.rev ~= old_rev and head.rev ~= rev) then
        if not head then
            lose(id)
        end
        results[#results + 1] = 0
        at = at + 2 * events
    elseif head.rev == rev then
        -- The move was made before, and its answer was lost. A field is written again, because WAITAOF waits only for
        -- the writes of its own connection.
        redis.call('HSET', job_key(id), 'rev', rev)
        results[#results + 1] = 1
        at = at + 2 * events
    else
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
            'record', record, 'facts', facts)
        change_tally(id, was_batch, head.tally, head.batch, tally)
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
settle_lanes()
settle_totals()
if wakes then
    wake()
end
return results
