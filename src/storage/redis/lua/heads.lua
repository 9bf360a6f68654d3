-- Raises the heads of keys.
--
-- KEYS: heads. ARGV: keys, each followed by its head.
raise_heads(KEYS[1], 1, 2, function(i) return ARGV[i + 1] end)
return false
