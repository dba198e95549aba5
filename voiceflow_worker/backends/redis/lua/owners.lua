-- Reads the owners of unique keys, tombstones included.
-- @include queue
-- ARGV: now, then keys. Returns {} (free), {id, digest, state} or {tombstone} for each key. A job that the server has
-- dropped keeps its key, and counts as in doubt, without a digest: it may have been called.
local now = tonumber(ARGV[1])
local answers = {}
for place = 2, #ARGV do
    local key = ARGV[place]
    local answer = {}
    local id = redis.call('HGET', base .. ':keys', key)
    if id then
        local head = redis.call('HMGET', job_key(id), 'digest', 'state')
        answer = {id, head[1] or '', head[2] or 'in_doubt'}
    else
        local grave = redis.call('HGET', base .. ':graves', key)
        if grave and now < tonumber(string.match(grave, '^(%-?%d+)|')) then
            answer = {grave}
        end
    end
    answers[#answers + 1] = answer
end
return answers
