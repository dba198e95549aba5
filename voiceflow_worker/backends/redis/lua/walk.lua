-- Reads matching jobs in order of their ids, looking at a bounded number of heads.
-- @include queue filter orphans
-- ARGV: seven filters, which ids (behind KEYS[1]), behind this id or '', how many to find, how many to look at, 1 for
-- the newest first.
-- Answers {the last id looked at, or '' at the end, row, …}.
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
    if not head then
        lose(id)
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
