-- A page of the log: where it ends, whether more follows, and the outcomes it names.
--
-- KEYS: outcomes, log.
-- ARGV: number behind which to begin, most entries, most bytes, the writer whose entries are left out.
local entries = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf',
    'WITHSCORES', 'LIMIT', 0, ARGV[2])
local answer, bytes = {ARGV[1], 0}, 0
for i = 1, #entries, 2 do
    if bytes >= tonumber(ARGV[3]) then
        answer[2] = 1
        return answer
    end
    local outcome = redis.call('HGET', KEYS[1], entries[i])
    if outcome and string.sub(outcome, 1, 8) ~= ARGV[4] then
        answer[#answer + 1] = outcome
        bytes = bytes + #outcome
    end
    answer[1] = entries[i + 1]
end
if #entries == 2 * tonumber(ARGV[2]) then
    answer[2] = 1
end
return answer
