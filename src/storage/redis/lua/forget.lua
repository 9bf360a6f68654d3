-- Takes a commit out of the log and keeps of its outcome what remains. Answers how many log entries went.
--
-- KEYS: outcomes, log. ARGV: id, what remains.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return redis.call('ZREM', KEYS[2], ARGV[1])
