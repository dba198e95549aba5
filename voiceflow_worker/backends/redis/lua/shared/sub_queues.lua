-- The indexes and counters that change with jobs. Every script that uses them calls `settle_queue` at its end.
--
-- A sub-queue has the queued jobs of one urgency and one batch, by due time; `batch:…:sub-queues` lists those of a batch. One
-- whose first job is not due is in `later`, by the time of that job. The others are in `ready`, in the order in which their
-- first jobs are leased. So no lease reads a sub-queue that is not due. `held_batches` has closed batches by the time at which they
-- open: a lease takes their sub-queues out of `ready` when it meets them. `expired` has the queued jobs whose validity has ended:
-- they are in no sub-queue, and wait for the sweep.
--
-- `state:…` has the jobs in a state by due time, `queued` those of a batch; `in:…` has the jobs in a state by id.
local touched, counted = {}, {}

local function zadd(key, score, member)
    redis.call('ZADD', key, score, member)
end

local function zrem(key, member)
    redis.call('ZREM', key, member)
end

-- The urgency (twice the priority, and one more for a retry that goes first), and '=' .. batch or ''.
local function parts_of(sub_queue)
    return string.match(sub_queue, '^(%-?%d+)(.*)$')
end

local function first_of(sub_queue)
    return unpack(redis.call('ZRANGE', base .. ':sub_queue:' .. sub_queue, 0, 0, 'WITHSCORES'))
end

-- The entry of a sub-queue in `ready` when this is its first job: the most urgent entry is the first one.
local function entry_of(sub_queue, id, due)
    return string.format('%07d%020.0f', 2000001 - parts_of(sub_queue), due) .. id .. NUL .. sub_queue
end

local function close_sub_queue(sub_queue)
    local _, batch = parts_of(sub_queue)
    zrem(base .. ':later', sub_queue)
    if batch ~= '' then
        zrem(batch_base(batch) .. ':sub_queues', sub_queue)
        if redis.call('EXISTS', batch_base(batch) .. ':sub_queues') == 0 then
            zrem(base .. ':held_batches', batch)
        end
    end
end

-- Puts a sub-queue where its first job belongs. `was` and `was_due` are the job that was the first one before, if it is known.
local function settle(sub_queue, now, was, was_due)
    local id, due = first_of(sub_queue)
    if was and was == id and was_due == due then
        return
    end
    if was then
        zrem(base .. ':ready', entry_of(sub_queue, was, was_due))
    end
    if not id then
        close_sub_queue(sub_queue)
        return
    end
    if tonumber(due) <= now then
        zrem(base .. ':later', sub_queue)
        zadd(base .. ':ready', 0, entry_of(sub_queue, id, due))
    else
        zadd(base .. ':later', due, sub_queue)
    end
    local urgency, batch = parts_of(sub_queue)
    if batch ~= '' then
        zadd(batch_base(batch) .. ':sub_queues', urgency, sub_queue)
    end
end

-- The key of the sub-queue of a job, whose first job is remembered before the script changes the sub-queue.
local function sub_queue_of(head)
    local sub_queue = head.prio .. head.batch
    if not touched[sub_queue] then
        touched[sub_queue] = {first_of(sub_queue)}
    end
    return base .. ':sub_queue:' .. sub_queue
end

-- Puts a job into the indexes that depend on its state.
local function enter(id, head)
    zadd(base .. ':state:' .. head.state, head.due, id)
    zadd(base .. ':in:' .. head.state, 0, id)
    if head.state == 'queued' then
        if head.batch ~= '' then
            zadd(batch_base(head.batch) .. ':queued', head.due, id)
        end
        zadd(sub_queue_of(head), head.due, id)
        if head.valid ~= '' then
            zadd(base .. ':valid', head.valid, id)
        end
    end
    -- Leased jobs are left out, because open calls are the jobs in `active` plus the leased jobs.
    if head.active ~= '' and head.state ~= 'leased' then
        zadd(base .. ':active', head.active, id)
    end
end

-- `is_out`: the caller has taken the job out of its sub-queue.
local function leave(id, head, is_out)
    zrem(base .. ':state:' .. head.state, id)
    zrem(base .. ':in:' .. head.state, id)
    if head.state == 'queued' then
        if head.batch ~= '' then
            zrem(batch_base(head.batch) .. ':queued', id)
        end
        if not is_out then
            zrem(sub_queue_of(head), id)
        end
        if head.valid ~= '' then
            zrem(base .. ':valid', id)
            zrem(base .. ':expired', id)
        end
    end
    if head.active ~= '' and head.state ~= 'leased' then
        zrem(base .. ':active', id)
    end
end

-- Adds an amount to a counter: a field of the totals of the queue, of a batch, or of the deleted jobs of a batch.
local function add(key, field, amount)
    counted[key] = counted[key] or {}
    counted[key][field] = (counted[key][field] or 0) + amount
end

local function count(batch, field, amount)
    add(base .. ':totals', field, amount)
    if batch ~= '' then
        add(batch_base(batch) .. ':totals', field, amount)
    end
end

-- Puts the sub-queues that the script has changed where they belong, and stores the changes of counters.
local function settle_queue(now)
    for sub_queue, was in pairs(touched) do
        settle(sub_queue, now, was[1], was[2])
    end
    for key, fields in pairs(counted) do
        for field, amount in pairs(fields) do
            if amount ~= 0 and redis.call('HINCRBY', key, field, string.format('%.0f', amount)) == 0 then
                redis.call('HDEL', key, field)
            end
        end
    end
    touched, counted = {}, {}
end
