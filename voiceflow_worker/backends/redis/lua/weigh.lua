-- Counts what some indexes hold, to choose among them.
-- @include queue
-- ARGV: the index of all ids, then per index its key (both behind KEYS[1]) and the highest score. Answers {all, held}.
local held = 0
for place = 2, #ARGV, 2 do
    held = held + redis.call('ZCOUNT', base .. ARGV[place], '-inf', ARGV[place + 1])
end
return {redis.call('ZCARD', base .. ARGV[1]), held}
