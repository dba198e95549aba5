-- Reads some matching jobs, in the order of their ids.
-- @include queue filter
-- ARGV: seven filters, the key suffix of the ids, after which id or '', the most jobs to return, the most heads to
-- examine, 1 for the newest first. Returns {the last id examined, or '' at the end, row, …}.
local index, wanted, looks = base .. ARGV[8], tonumber(ARGV[10]), tonumber(ARGV[11])
local behind = ARGV[9] ~= '' and '(' .. ARGV[9]
local ids
if ARGV[12] == '1' then
    ids = redis.call('ZREVRANGEBYLEX', index, behind or '+', '-', 'LIMIT', 0, looks)
else
    ids = redis.call('ZRANGEBYLEX', index, behind or '-', '+', 'LIMIT', 0, looks)
end
local answer = {''}
for place, id in ipairs(ids) do
    local head = head_of(id)
    if not head then -- the server has dropped the job
        redis.call('ZREM', index, id)
    elseif is_wanted(head) then
        answer[#answer + 1] = row_of(id)
    end
    if #answer > wanted then
        answer[1] = id
        return answer
    end
    if place == looks then
        answer[1] = id
    end
end
return answer
