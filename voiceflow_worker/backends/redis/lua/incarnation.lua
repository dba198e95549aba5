-- Which process answers: a server gives itself another id whenever it is started. Asked of the server itself, as the
-- client opens lost connections anew without a word.
return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
