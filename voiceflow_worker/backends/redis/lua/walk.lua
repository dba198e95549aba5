-- Reads matching jobs in order of their ids, looking at a bounded number of heads.
-- @include queue filter orphans
-- ARGV: six filters, which ids (behind KEYS[1]), after this id or '', how many to find, how many to look at.
-- Answers {the last id looked at, or '' at the end, row, …}.
local wanted, looks = tonumber(ARGV[9]), tonumber(ARGV[10])
local from = ARGV[8] == '' and '-' or '(' .. ARGV[8]
local ids = redis.call('ZRANGEBYLEX', base .. ARGV[7], from, '+', 'LIMIT', 0, looks)
local answer = {''}
for place, id in ipairs(ids) do
    local head = head_of(id)
    if not head then
        lose(id)
        redis.call('ZREM', base .. ARGV[7], id)
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
