-- Filters of jobs. ARGV[1..7]: states as ',queued,leased,', batch, destination, unique key, due before, valid before,
-- outcomes as '\nname\nname\n'. A filter that is '' lets every job pass.
local function has_outcome(head)
    local name = string.match('\n' .. head.tally, '\n%d+ outcome:([^\n]*)\n')
    return name ~= nil and string.find(ARGV[7], '\n' .. name .. '\n', 1, true) ~= nil
end

local function is_wanted(head)
    return (ARGV[1] == '' or string.find(ARGV[1], ',' .. head.state .. ',', 1, true) ~= nil)
        and (ARGV[2] == '' or head.batch == ARGV[2])
        and (ARGV[3] == '' or head.dest == ARGV[3])
        and (ARGV[4] == '' or head.key == ARGV[4])
        and (ARGV[5] == '' or tonumber(head.due) <= tonumber(ARGV[5]))
        and (ARGV[6] == '' or (head.valid ~= '' and tonumber(head.valid) <= tonumber(ARGV[6])))
        and (ARGV[7] == '' or has_outcome(head))
end
