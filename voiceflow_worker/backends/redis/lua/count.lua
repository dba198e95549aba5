-- Counts the jobs in an index by time that are due by a time, or those in the sub-queues of an open import; or the indexes
-- that have one.
-- @include store queue sub_queues
-- Asked: queue, by ('' for any time); times (the end of the key of the index), or batch and start; or any_of: pairs of the end of
-- the key of an index, and a time as `by`.
base = base_of(asked.queue)
local indexes = {asked.times and base .. asked.times}
for _, sub_queue in ipairs(asked.batch and redis.call('ZRANGE', batch_base(asked.batch) .. ':sub_queues', 0, -1) or {}) do
    local _, start = parts_of(sub_queue)
    if start == ':' .. asked.start then
        indexes[#indexes + 1] = base .. ':sub_queue:' .. sub_queue
    end
end
local amount = 0
for _, each in ipairs(asked.any_of or {}) do
    local index, by = unpack(each)
    amount = amount + math.min(1, redis.call('ZCOUNT', base .. index, '-inf', by == '' and '+inf' or by))
end
for _, index in ipairs(indexes) do
    amount = amount + redis.call('ZCOUNT', index, '-inf', asked.by == '' and '+inf' or asked.by)
end
return packed(amount)
