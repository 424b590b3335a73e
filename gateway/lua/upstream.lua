-- The last filter before the server. gRPC keeps headers in a table that all calls of a connection share, and
-- Envoy's callers share its connections: one malformed header breaks the calls of others. So only headers that
-- the server reads pass, and only well-formed ones.
local FORWARDED = {
  [":authority"] = true, [":method"] = true, [":path"] = true, [":scheme"] = true,
  ["authorization"] = true, ["content-type"] = true, ["grpc-encoding"] = true, ["grpc-timeout"] = true,
  ["traceparent"] = true, ["x-request-id"] = true,
  ["x-client-address"] = true, -- set below
  ["x-attempt"] = true, -- of the SDK; the gateway counts its own attempts in another header
  ["x-forwarded-proto"] = true, -- set by Envoy, which finds no route without it
  ["x-native-grpc"] = true, -- set by requests.lua; local replies depend on it
  ["x-cookies"] = true, -- set below
  ["if-none-match"] = true, ["if-range"] = true, ["range"] = true, -- of the content of an image
  ["tus-resumable"] = true, ["upload-length"] = true, ["upload-metadata"] = true, ["upload-offset"] = true, -- of tus 1.0
  ["sec-fetch-site"] = true, ["x-image-categorizer"] = true, -- whether a session's cookie counts
  ["x-http-method"] = true, ["x-body"] = true, ["x-body-encoding"] = true, -- set by requests.lua
}
-- Malformed ones are dropped: the server then makes its own.
local OPTIONAL = {
  "if-none-match", "if-range", "range", "sec-fetch-site", "traceparent", "x-attempt", "x-image-categorizer", "x-request-id",
  "tus-resumable", "upload-length", "upload-metadata", "upload-offset",
}
local ENCODINGS = { identity = true, gzip = true, deflate = true }
local COMPRESSED = 1 -- the only flag that gRPC defines for messages
local INVALID_ARGUMENT, UNIMPLEMENTED = "3", "12"

-- Answers a call by gRPC or gRPC-web, whose HTTP status is always 200.
local function refuse_grpc(handle, status, message)
  handle:respond({ [":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = status, ["grpc-message"] = message }, "")
end

local function is_printable(value)
  return not value:find("[^\32-\126]")
end

-- Passes on our own cookies, and no others: their values are secrets of other programs.
local function take_cookies(headers)
  local kept = {}
  for pair in (headers:get("cookie") or ""):gmatch("[^;]+") do
    local cookie = pair:match("^%s*(.-)%s*$")
    if cookie:find("^ic_[%w_]+=[%w_-]*$") or cookie:find("^__Host%-ic_[%w_]+=[%w_-]*$") then
      kept[#kept + 1] = cookie
    end
  end
  headers:remove("x-cookies")
  if #kept > 0 then headers:replace("x-cookies", table.concat(kept, "; "):sub(1, 1024)) end
end

local function drop_the_rest(headers)
  local others = {}
  for name in pairs(headers) do
    if not FORWARDED[name] then others[#others + 1] = name end
  end
  for _, name in ipairs(others) do headers:remove(name) end
  for _, name in ipairs(OPTIONAL) do
    local value = headers:get(name)
    if value and not is_printable(value) then headers:remove(name) end
  end
end

-- Returns what is wrong with a call by gRPC or gRPC-web: its status and a message; nil if nothing is.
local function violation_of_grpc(headers)
  if headers:get(":method") ~= "POST" then
    return UNIMPLEMENTED, "gRPC calls use the method POST"
  end
  local content_type = headers:get("content-type")
  if content_type ~= "application/grpc" and content_type ~= "application/grpc+proto" then
    return UNIMPLEMENTED, "content-type: must be application/grpc or application/grpc+proto"
  end
  local path = headers:get(":path")
  if #path > 256 or not path:find("^/[%w_.]+/[%w_]+$") then
    return UNIMPLEMENTED, "the path of a gRPC call is /package.Service/Method"
  end
  local timeout = headers:get("grpc-timeout")
  if timeout and not (#timeout <= 9 and timeout:find("^%d+[HMSmun]$")) then
    return INVALID_ARGUMENT, "grpc-timeout: must be 1 to 8 digits and a unit, one of H M S m u n"
  end
  local encoding = headers:get("grpc-encoding")
  if encoding and not ENCODINGS[encoding] then
    return UNIMPLEMENTED, "grpc-encoding: must be identity, gzip or deflate"
  end
end

-- Drops the body of a gRPC-web call whose first frame is no message, such as trailers. The server would take that for
-- an empty message; without a message it refuses the call.
local function drop_other_frames(handle)
  local is_other
  for chunk in handle:bodyChunks() do
    if is_other == nil and chunk:length() > 0 then
      is_other = chunk:getBytes(0, 1):byte() > COMPRESSED
    end
    if is_other then chunk:setBytes("") end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get("x-native-grpc") then
    local status, message = violation_of_grpc(headers)
    if status then return refuse_grpc(handle, status, message) end
  else
    headers:remove("grpc-encoding")
    headers:remove("grpc-timeout")
  end
  if not is_printable(headers:get("authorization") or "") then
    local message = "authorization: must consist of printable ASCII characters"
    if headers:get("x-native-grpc") then return refuse_grpc(handle, INVALID_ARGUMENT, message) end
    return handle:respond({ [":status"] = "400" }, message)
  end
  take_cookies(headers)
  drop_the_rest(headers)
  -- The server counts calls by it. With `use_remote_address` Envoy has checked it against its trusted proxies.
  headers:replace("x-client-address", (handle:streamInfo():downstreamRemoteAddress():gsub(":%d+$", ""):gsub("[%[%]]", "")))
  headers:replace(":authority", "server")
  headers:replace("content-type", "application/grpc")
  headers:replace("te", "trailers")
  local noted = handle:streamInfo():dynamicMetadata():get("requests")
  if noted and noted["grpc_web"] then drop_other_frames(handle) end
end
