-- Reads the facts of some jobs, in the order of their ids. Open jobs have none: their facts are ''.
-- @include queue
-- ARGV: the key suffix of the ids, after which id or '', the most ids to examine, the row for a job without facts.
-- Returns {} at the end, or {the last id, the rows, {id, state, destination, record} of each job without facts, …}.
-- Orphans are left to listings.
local find = string.find
local index, most = base .. ARGV[1], tonumber(ARGV[3])
local first = ARGV[2] == '' and 0 or redis.call('ZLEXCOUNT', index, '-', '[' .. ARGV[2])

-- The facts of jobs. SORT reads them in half the time of a command for each job. But SORT is refused in a cluster, and to
-- users who are not allowed to read all keys; and it would misread a key with an asterisk or a NUL.
local function read()
    local key = job_key('*')
    if find(base, '[%*%z]') == nil then
        local found = redis.pcall('SORT', index, 'BY', 'nosort', 'LIMIT', first, most, 'GET', key .. '->facts')
        if not found.err then
            return found
        end
    end
    local found = {}
    for place, id in ipairs(redis.call('ZRANGE', index, first, first + most - 1)) do
        found[place] = redis.call('HGET', job_key(id), 'facts')
    end
    return found
end

local found, page, ids = read(), {}, nil
if #found == 0 then
    return {}
end
local answer = {redis.call('ZRANGE', index, first + #found - 1, first + #found - 1)[1], ''}
for place, facts in ipairs(found) do
    if facts == '' then
        ids = ids or redis.call('ZRANGE', index, first, first + most - 1)
        local id = ids[place]
        local job = redis.call('HMGET', job_key(id), 'state', 'dest', 'record')
        page[#page + 1] = ARGV[4]
        answer[#answer + 1] = {id, job[1], string.sub(job[2], 2), job[3]}
    elseif facts then
        page[#page + 1] = facts
    end
end
answer[2] = table.concat(page, ',')
return answer
