-- Reads a queue's limits and its gates that are not open.
-- @include queue
-- Answers {{rate, burst, max_active}, {gate, text, …}}.
return {redis.call('HMGET', base .. ':limits', 'rate', 'burst', 'max_active'), redis.call('HGETALL', base .. ':gates')}
