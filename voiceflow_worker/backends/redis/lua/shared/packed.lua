-- Many arguments of a script are packed into one JSON array of texts, which takes both sides less time. The texts
-- themselves, such as records and bodies, are not decoded.
local ARGV = cjson.decode(ARGV[1])

-- An answer of many texts, packed in the same way.
local function packed(answer)
    return cjson.encode(answer)
end
