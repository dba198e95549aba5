-- Reads what the server has dropped: how many jobs, and some of them.
-- @include queue
-- Answers {{state, count, …}, {id, state, …}}.
return {redis.call('HGETALL', base .. ':lost:counts'), redis.call('HGETALL', base .. ':lost')}
