-- Reads the jobs with some ids, if they exist and match.
-- @include queue filter
-- ARGV: seven filters, then ids. Returns rows.
local rows = {}
for place = 8, #ARGV do
    local head = head_of(ARGV[place])
    if head and is_wanted(head) then
        rows[#rows + 1] = row_of(ARGV[place])
    end
end
return rows
