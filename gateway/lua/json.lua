-- Prepares JSON bodies for the transcoder, which reads UTF-8 without a byte order mark.
local UTF8_MARK = "\239\187\191"
local UTF16_MARKS = { ["\255\254"] = true, ["\254\255"] = true }

function envoy_on_request(handle)
  local headers = handle:headers()
  local is_json = (headers:get("content-type") or ""):lower():find("^application/json")
  if not is_json or (headers:get(":path") or ""):find(":upload", 1, true) then
    return
  end
  local body = handle:body()
  if not body or body:length() < 2 then
    return
  end
  if UTF16_MARKS[body:getBytes(0, 2)] then
    handle:respond({ [":status"] = "400" }, "the JSON must be encoded in UTF-8")
  elseif body:length() >= 3 and body:getBytes(0, 3) == UTF8_MARK then
    handle:headers():remove("content-length")
    body:setBytes(body:getBytes(3, body:length() - 3))
  end
end
