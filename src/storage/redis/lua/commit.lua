-- Makes an outcome that of its id, with its log entry and, if they live here, the heads of its keys;
-- unless the id has an outcome: then answers that.
--
-- KEYS: outcomes, log, sequence, heads.
-- ARGV: id, outcome, the version as a head, then the keys whose heads live here.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
    return redis.call('HGET', KEYS[1], ARGV[1])
end
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1])
raise_heads(KEYS[4], 4, 1, function() return ARGV[3] end)
return false
