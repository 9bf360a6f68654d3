-- Raises the heads of keys.
--
-- KEYS: heads. ARGV: keys, each followed by its head; no more than Lua can pass to one call.
local keys = {}
for i = 1, #ARGV, 2 do
    keys[#keys + 1] = ARGV[i]
end
local known, newer = redis.call('HMGET', KEYS[1], unpack(keys)), {}
for i = 1, #keys do
    local old, head = known[i], ARGV[2 * i]
    if not old or old < string.sub(head, 1, 20) or is_older_writer(old, head) then
        newer[#newer + 1] = keys[i]
        newer[#newer + 1] = head
    end
end
if #newer > 0 then
    redis.call('HSET', KEYS[1], unpack(newer))
end
return false
