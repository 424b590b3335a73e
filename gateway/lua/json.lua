-- Prepares JSON bodies for the transcoder, which reads UTF-8 without a byte order mark. It takes what Envoy could
-- unpack of a damaged gzip body for all of it, so that is refused here.
local UTF8_MARK = "\239\187\191"
local UTF16_MARKS = { ["\255\254"] = true, ["\254\255"] = true }
local MAX_UNPACKED_BYTES = 1048576 -- as many as Envoy holds of a body for a script
local DAMAGED = "body: is not gzip, is damaged or truncated, has several members, or becomes too large when unpacked"
local REVERSED_POLYNOMIAL = 0xEDB88320

local checksums = {}
for byte = 0, 255 do
  local sum = byte
  for _ = 1, 8 do
    local rest = bit.rshift(sum, 1)
    sum = bit.band(sum, 1) == 1 and bit.bxor(rest, REVERSED_POLYNOMIAL) or rest
  end
  checksums[byte] = sum
end

-- Returns the CRC-32 of a text, between 0 and 2^32 - 1.
local function crc32(text)
  local sum = -1
  for at = 1, #text do
    sum = bit.bxor(checksums[bit.band(bit.bxor(sum, text:byte(at)), 255)], bit.rshift(sum, 8))
  end
  return bit.bnot(sum) % 4294967296
end

-- Returns whether a body is what its gzip data, which requests.lua has seen, say at their end.
local function is_whole(text, noted)
  return #text == noted["unpacked_bytes"] and #text <= MAX_UNPACKED_BYTES and crc32(text) == noted["unpacked_crc32"]
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if (headers:get(":path") or ""):find(":upload", 1, true) then
    return
  end
  local noted = handle:streamInfo():dynamicMetadata():get("requests") or {}
  local is_json = (headers:get("content-type") or ""):lower():find("^application/json")
  if not is_json and not noted["unpacked_bytes"] then
    return
  end
  local body = handle:body()
  local size = body and body:length() or 0
  if noted["unpacked_bytes"] and not is_whole(size > 0 and body:getBytes(0, size) or "", noted) then
    handle:respond({ [":status"] = "400" }, DAMAGED)
  elseif size < 2 then
    return
  elseif UTF16_MARKS[body:getBytes(0, 2)] then
    handle:respond({ [":status"] = "400" }, "the JSON must be encoded in UTF-8")
  elseif size >= 3 and body:getBytes(0, 3) == UTF8_MARK then
    handle:headers():remove("content-length")
    body:setBytes(body:getBytes(3, size - 3))
  end
end
