-- Reads what counts need of some jobs, in the order of their ids: a third of what a listing reads.
-- @include queue
-- ARGV: the key suffix of the ids, after which id or '', the most ids to examine. Returns {the last id examined, or ''
-- at the end, {id, state, destination, record}, …}. Orphans are left to listings.
local behind = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local ids = redis.call('ZRANGEBYLEX', base .. ARGV[1], behind, '+', 'LIMIT', 0, ARGV[3])
local answer = {ids[#ids] or ''}
for _, id in ipairs(ids) do
    local job = redis.call('HMGET', job_key(id), 'state', 'dest', 'record')
    if job[1] then
        answer[#answer + 1] = {id, job[1], string.sub(job[2], 2), job[3]}
    end
end
return answer
