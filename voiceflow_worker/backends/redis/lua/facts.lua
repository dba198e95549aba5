-- Reads the facts of some jobs, in the order of their ids. Facts end with the revision of the job for which they are
-- valid.
-- @include queue
-- ARGV: the key suffix of the ids, after which id or '', the most ids to examine, the text after the revision in facts,
-- the row for a job without valid facts. Returns {} at the end, or {the last id, the rows, {id, state, destination,
-- record} of each job without valid facts, …}. Orphans are left to listings.
local find, byte = string.find, string.byte
local index, most, ends = base .. ARGV[1], tonumber(ARGV[3]), ARGV[4]
local first = ARGV[2] == '' and 0 or redis.call('ZLEXCOUNT', index, '-', '[' .. ARGV[2])

-- The facts and the revisions of jobs, one after the other. SORT reads them in half the time of a command for each job.
-- But SORT is refused in a cluster, and to users who are not allowed to read all keys; and it would misread a key with
-- an asterisk or a NUL.
local function read()
    local key = job_key('*')
    if find(base, '[%*%z]') == nil then
        local found = redis.pcall('SORT', index, 'BY', 'nosort', 'LIMIT', first, most, 'GET', key .. '->facts',
            'GET', key .. '->rev')
        if not found.err then
            return found
        end
    end
    local found = {}
    for place, id in ipairs(redis.call('ZRANGE', index, first, first + most - 1)) do
        local job = redis.call('HMGET', job_key(id), 'facts', 'rev')
        found[2 * place - 1], found[2 * place] = job[1], job[2]
    end
    return found
end

local found, page, ids = read(), {}, nil
if #found == 0 then
    return {}
end
local answer = {redis.call('ZRANGE', index, first + #found / 2 - 1, first + #found / 2 - 1)[1], ''}
for place = 1, #found, 2 do
    local facts, rev = found[place], found[place + 1]
    local valid = facts and find(facts, rev, -#rev - #ends, true) and find(facts, ends, -#ends, true)
        and byte(facts, -#rev - #ends - 1) == byte('"')
    if valid then
        page[#page + 1] = facts
    elseif rev then
        ids = ids or redis.call('ZRANGE', index, first, first + most - 1)
        local id = ids[(place + 1) / 2]
        local job = redis.call('HMGET', job_key(id), 'state', 'dest', 'record')
        page[#page + 1] = ARGV[5]
        answer[#answer + 1] = {id, job[1], string.sub(job[2], 2), job[3]}
    end
end
answer[2] = table.concat(page, ',')
return answer
