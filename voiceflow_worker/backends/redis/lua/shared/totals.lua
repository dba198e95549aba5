-- Totals: the sums of the tallies of jobs, in one hash for the queue and one for each batch. States are counted by
-- their indexes. The tally of a job is stored with the job, so that it can be subtracted when it changes. It is text,
-- with a line 'amount field' for each field. `pruned` has the totals of the deleted jobs of a batch,
-- while the batch has other jobs.
local changes = {}

local function add(key, field, amount)
    local fields = changes[key]
    if not fields then
        fields = {}
        changes[key] = fields
    end
    fields[field] = (fields[field] or 0) + amount
end

local function add_all(key, tally, sign)
    for amount, field in string.gmatch(tally, '(%-?%d+) ([^\n]*)\n') do
        add(key, field, sign * amount)
    end
end

local function add_tally(batch, tally, sign)
    add_all(base .. ':totals', tally, sign)
    if batch ~= '' then
        add_all(batch_base(batch) .. ':totals', tally, sign)
    end
end

-- Replaces the tally of a job in the totals. `was` is its old tally.
local function change_tally(id, batch, was, tally)
    if was == tally then
        return
    end
    add_tally(batch, was, -1)
    add_tally(batch, tally, 1)
    if tally == '' then
        redis.call('HDEL', job_key(id), 'tally')
    else
        redis.call('HSET', job_key(id), 'tally', tally)
    end
end

-- Writes the changes of the totals. Every script that changes tallies calls it at its end.
local function settle_totals()
    for key, fields in pairs(changes) do
        for field, amount in pairs(fields) do
            if amount ~= 0 and redis.call('HINCRBY', key, field, string.format('%.0f', amount)) == 0 then
                redis.call('HDEL', key, field)
            end
        end
    end
    changes = {}
end
