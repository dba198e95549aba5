-- Counts the jobs in an index by time that are due by a time; or the indexes that have one.
-- @include store queue
-- Asked: queue, by ('' for any time), times (the end of the key of the index); or any_of: pairs of the end of the key of an
-- index, and a time as `by`.
base = base_of(asked.queue)
local indexes = {asked.times and base .. asked.times}
local amount = 0
for _, each in ipairs(asked.any_of or {}) do
    local index, by = unpack(each)
    amount = amount + math.min(1, redis.call('ZCOUNT', base .. index, '-inf', by == '' and '+inf' or by))
end
for _, index in ipairs(indexes) do
    amount = amount + redis.call('ZCOUNT', index, '-inf', asked.by == '' and '+inf' or asked.by)
end
return packed(amount)
