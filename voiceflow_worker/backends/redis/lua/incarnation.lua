-- The id of the server process: a server has a new one after each start. The server is asked, because the client reopens
-- lost connections without notice.
return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
