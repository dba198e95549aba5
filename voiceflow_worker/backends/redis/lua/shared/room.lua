-- Whether the server is full: false, or its error. Only the first write of a script may be refused for that reason, so
-- this comes before all others. It changes nothing.
local room = root .. ':room'
local full = redis.pcall('SETRANGE', room, 0, '')
full = type(full) == 'table' and full.err and string.find(full.err, 'OOM', 1, true) and full.err
if full then
    -- This needs no memory. After it the server takes evidence, as long as there is a byte.
    redis.call('DEL', room)
end
