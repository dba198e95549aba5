-- The arguments of a script with many are packed: one JSON array of texts, which takes both sides less time than many
-- arguments. Texts are not opened: a record or a body is a text here as anywhere.
local ARGV = cjson.decode(ARGV[1])

-- An answer of many texts, packed in the same way.
local function packed(answer)
    return cjson.encode(answer)
end
