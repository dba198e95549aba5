-- Makes moves of jobs and stores their events. A move is made only if the job still has the old revision.
-- @include packed queue lanes totals indexes wake moves
-- ARGV: the moves. Returns 1 (made, now or before) or 0 for each move.
local results = {}
while at <= #ARGV do
    results[#results + 1] = make_move(true)
end
end_moves()
return results
