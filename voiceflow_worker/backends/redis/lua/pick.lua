-- Reads jobs by their ids, those that are there and match.
-- @include queue filter orphans
-- ARGV: seven filters, then ids. Answers rows.
local rows = {}
for place = 8, #ARGV do
    local head = head_of(ARGV[place])
    if not head then
        lose(ARGV[place])
    elseif is_wanted(head) then
        rows[#rows + 1] = row_of(ARGV[place])
    end
end
return rows
