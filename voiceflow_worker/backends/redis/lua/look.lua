-- Reads jobs, and the id of the server process, which is new after each start. Lost connections do not show a restart,
-- because the client reopens them without notice.
-- @include queue
-- ARGV: ids. Returns {the id of the process or '', row, …}. Unknown jobs are left out.
local answer = {string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''}
for _, id in ipairs(ARGV) do
    answer[#answer + 1] = row_of(id)
end
return answer
