-- Leases due jobs to a worker, as far as gates and max_active allow: the highest urgency first, then the earliest due,
-- then by id.
-- @include store queue sub_queues
-- Asked: queue, now, limit, ends (of the lease), worker, batch, token. The revision of the n-th job is token.n.
-- Returns {1 if the script stopped early and should be run again, else 0, row, …}.
base = base_of(asked.queue)
local now, limit, only = tonumber(asked.now), asked.limit, asked.batch
-- The most index entries that one script corrects beside leasing jobs. This keeps the script to a few milliseconds.
local WORK = 250
-- The most jobs that one script leases, and the most jobs that it reads at once from one of several sub-queues.
local MOST, CHUNK = 500, 16

-- Returns nil for an open queue or batch, and for a closed one the time at which it opens by itself, or 'inf' for never. A
-- batch is closed by its gate or by a hold.
local function closed_until(batch)
    if batch ~= '' and #group_at('hold', asked.queue .. batch, now) > 0 then
        return 'inf'
    end
    local gate, opens = record_at('gate', asked.queue, batch, now)
    if not is_closed(gate) then
        return nil
    end
    return opens == '' and 'inf' or opens
end

local work = WORK
if closed_until('') then
    return packed({0})
end
local _, _, most = limits_at(asked.queue, now)
if most ~= '-' then
    local active = redis.call('ZCARD', base .. ':state:leased')
        + redis.call('ZCOUNT', base .. ':active', '(' .. asked.now, '+inf')
    limit = math.min(limit, tonumber(most) - active)
end
if limit <= 0 then
    return packed({0})
end
limit = math.min(limit, MOST)

-- Jobs return to their sub-queues if they seemed expired because a clock had jumped ahead.
local returned = redis.call('ZRANGEBYSCORE', base .. ':expired', '(' .. asked.now, '+inf', 'LIMIT', 0, work)
for _, id in ipairs(returned) do
    local head = head_of(id)
    if head then
        zadd(sub_queue_of(head), head.due, id)
    end
    zrem(base .. ':expired', id)
end
settle_queue(now)
work = work - #returned

-- Batches that were closed return if their gate has opened by itself or was changed.
for _, batch in ipairs(redis.call('ZRANGEBYSCORE', base .. ':held_batches', '-inf', asked.now, 'LIMIT', 0, math.max(work, 0))) do
    local opens = closed_until(batch)
    if opens then
        zadd(base .. ':held_batches', opens, batch)
    else
        local sub_queues = redis.call('ZRANGE', batch_base(batch) .. ':sub_queues', 0, -1)
        for _, sub_queue in ipairs(sub_queues) do
            settle(sub_queue, now)
        end
        zrem(base .. ':held_batches', batch)
        work = work - #sub_queues
    end
    work = work - 1
end

-- Sub-queues become ready when their first job becomes due.
local come = redis.call('ZRANGEBYSCORE', base .. ':later', '-inf', asked.now, 'LIMIT', 0, math.max(work, 0))
for _, sub_queue in ipairs(come) do
    settle(sub_queue, now)
end
work = work - #come
if work <= 0 then
    return packed({1})
end

local chosen, chosen_heads = {}, {}

-- Takes due jobs out of a sub-queue, up to the entry of the next sub-queue. `id` and `id_due` are the first job of the sub-queue.
local function take_from(sub_queue, next_entry, id, id_due)
    local _, batch = parts_of(sub_queue)
    local size = math.min(limit - #chosen, next_entry and CHUNK or limit)
    if size <= 0 then
        return false
    end
    local found = redis.call('ZRANGEBYSCORE', base .. ':sub_queue:' .. sub_queue, '-inf', asked.now, 'WITHSCORES', 'LIMIT', 0, size)
    local gone = {}
    for position = 1, #found, 2 do
        local each = found[position]
        if work <= 0 or (next_entry and entry_of(sub_queue, each, found[position + 1]) > next_entry) then
            break
        end
        gone[#gone + 1] = each
        local head = head_of(each)
        if not head then -- the server has dropped the job (by an evicting maxmemory-policy)
            count(batch, 'state:queued', -1)
            zrem(base .. ':state:queued', each)
            zrem(base .. ':in:queued', each)
            if batch ~= '' then
                zrem(batch_base(batch) .. ':queued', each)
                zrem(batch_base(batch) .. ':ids', each)
            end
            work = work - 1
        elseif head.valid ~= '' and tonumber(head.valid) <= now then
            zadd(base .. ':expired', head.valid, each)
            work = work - 1
        elseif head.state == 'queued' then
            chosen[#chosen + 1] = each
            chosen_heads[each] = head
        end
    end
    if #gone > 0 then
        redis.call('ZREM', base .. ':sub_queue:' .. sub_queue, unpack(gone))
    else
        work = work - 1
    end
    settle(sub_queue, now, id, id_due)
    return #gone > 0
end

if only == '' then
    local closed = {}
    while #chosen < limit and work > 0 do
        local first, second = unpack(redis.call('ZRANGE', base .. ':ready', 0, 1))
        if not first then
            break
        end
        local bar = string.find(first, NUL, 1, true)
        local due, id, sub_queue = string.sub(first, 8, 27), string.sub(first, 28, bar - 1), string.sub(first, bar + 1)
        local _, batch = parts_of(sub_queue)
        if batch ~= '' and closed[batch] == nil then
            closed[batch] = closed_until(batch) or false
        end
        if batch ~= '' and closed[batch] then
            zrem(base .. ':ready', first)
            zadd(base .. ':held_batches', closed[batch], batch)
            work = work - 1
        else
            take_from(sub_queue, second, id, due)
        end
    end
elseif not closed_until(only) then
    for _, sub_queue in ipairs(redis.call('ZREVRANGE', batch_base(only) .. ':sub_queues', 0, -1)) do
        local goes_on = true
        while goes_on and #chosen < limit and work > 0 do
            goes_on = take_from(sub_queue, nil, first_of(sub_queue))
        end
    end
end

local rows = {#chosen < limit and work <= 0 and 1 or 0}
for position, id in ipairs(chosen) do
    local head = chosen_heads[id]
    leave(id, head, true)
    count(head.batch, 'state:queued', -1)
    count(head.batch, 'state:leased', 1)
    head.state, head.due = 'leased', asked.ends
    enter(id, head)
    redis.call('HSET', job_key(id), 'state', 'leased', 'due', asked.ends, 'rev', asked.token .. '.' .. position,
        'worker', asked.worker)
    rows[position + 1] = row_of(id)
end
settle_queue(now)
return packed(rows)
