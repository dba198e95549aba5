-- Whether a job is among those asked for. ARGV[1..6]: states as ',queued,leased,' or '', batch, destination, unique key,
-- due before, valid before; '' asks for nothing.
local function is_wanted(head)
    return (ARGV[1] == '' or string.find(ARGV[1], ',' .. head.state .. ',', 1, true) ~= nil)
        and (ARGV[2] == '' or head.batch == ARGV[2])
        and (ARGV[3] == '' or head.dest == ARGV[3])
        and (ARGV[4] == '' or head.key == ARGV[4])
        and (ARGV[5] == '' or tonumber(head.due) <= tonumber(ARGV[5]))
        and (ARGV[6] == '' or (head.valid ~= '' and tonumber(head.valid) <= tonumber(ARGV[6])))
end
