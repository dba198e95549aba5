-- Sets the tallies of jobs. A tally is set only if the job still has the given revision.
-- @include queue lanes totals
-- ARGV: for each job: id, rev, tally. Returns 1 (changed) or 0 for each job.
local results = {}
for place = 1, #ARGV, 3 do
    local id, tally = ARGV[place], ARGV[place + 2]
    local head = head_of(id)
    local changes_it = head and head.rev == ARGV[place + 1] and head.tally ~= tally
    if changes_it then
        change_tally(id, head.batch, head.tally, head.batch, tally)
    end
    results[#results + 1] = changes_it and 1 or 0
end
settle_totals()
return results
