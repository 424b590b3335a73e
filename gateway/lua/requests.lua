-- Makes what clients send uniform, before anything else looks at it:
--
-- Headers that are too many or too large end here.  Envoy's own limits, which are higher, reset calls by gRPC.
-- HEAD is answered as GET, without a body.  The header `x-http-method: HEAD` tells the server.
-- A slash at the end of a path is dropped, and so is the query of a page.
-- Some paths accept several kinds of body: all go to the sibling binding `:upload`, where the server reads them.
-- A body may be compressed by gzip, and in no other way.
-- One path has two kinds of response: lines of JSON, or server-sent events for clients that accept them.
local UPLOADS = {
  ["/v1/classify"] = true,
  ["/v1/batch"] = true,
  ["/v1/images"] = true,
  ["/v1/embeddings"] = true,
}
local CALLBACK = "/auth/callback"
local SIGN_IN_PARAMETERS = { code = true, state = true, error = true }
local FILTER = "requests"
local MAX_MESSAGE_BYTES = 200
local LONG_ERROR_BYTES = 400 -- one with a message of 200 bytes has about that
local GZIP_HEAD_BYTES, GZIP_TAIL_BYTES = 10, 8

local RESOURCE_EXHAUSTED = "8"

local function note(handle, key, value)
  handle:streamInfo():dynamicMetadata():set(FILTER, key, value)
end

local function are_too_large(headers, limits)
  local count, bytes = 0, 0
  for name, value in pairs(headers) do
    count, bytes = count + 1, bytes + #name + #value
  end
  return count > limits:get("max_headers") or bytes > limits:get("max_bytes")
end

-- Refuses a call for its headers: by gRPC with the status and the reason that `local/gateway.py` gives, by REST
-- with the error that it describes.
local function refuse_headers(handle, content_type, limits)
  if not content_type:find("^application/grpc") then
    return handle:respond({ [":status"] = "431" }, "")
  end
  handle:respond({
    [":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = RESOURCE_EXHAUSTED,
    ["grpc-message"] = limits:get("message"), ["grpc-status-details-bin"] = limits:get("details"),
    ["grpc-retry-pushback-ms"] = "-1", -- the same headers would be refused again
  }, "")
end

-- Stores the content type of the response stream: the transcoder answers `application/json` for both kinds.
local function note_stream(handle, headers, path)
  if path:find("^/v1/batch/[^/]+:watch$") then
    local accept = headers:get("accept") or ""
    local kind = accept:find("text/event-stream", 1, true) and "text/event-stream" or "application/x-ndjson"
    note(handle, "stream", kind)
  end
end

-- Returns whether the body can be unpacked. The server unpacks uploads, Envoy all others.
local function take_encoding(headers, is_upload)
  local encoding = (headers:get("content-encoding") or ""):lower()
  if encoding == "gzip" or encoding == "x-gzip" then
    headers:replace(is_upload and "x-body-encoding" or "content-encoding", "gzip")
    if is_upload then
      headers:remove("content-encoding")
    end
    return true
  end
  headers:remove("content-encoding")
  return encoding == "" or encoding == "identity"
end

local function number_at(bytes, at)
  local first, second, third, fourth = bytes:byte(at, at + 3)
  return first + second * 256 + third * 65536 + fourth * 16777216
end

-- Stores what the end of gzip data says about the body: json.lua compares it with what Envoy has unpacked.
local function note_gzip_tail(handle)
  local body = handle:body()
  local size = body and body:length() or 0
  if size == 0 then
    return
  end
  local crc32, unpacked_bytes = -1, -1
  if size > GZIP_HEAD_BYTES + GZIP_TAIL_BYTES then
    local tail = body:getBytes(size - GZIP_TAIL_BYTES, GZIP_TAIL_BYTES)
    crc32, unpacked_bytes = number_at(tail, 1), number_at(tail, 5)
  end
  note(handle, "unpacked_crc32", crc32)
  note(handle, "unpacked_bytes", unpacked_bytes)
end

-- Returns a query without blanks around values, and without empty values: as in a form, they are not given.
local function clean_query(query)
  local kept = {}
  for pair in query:gmatch("[^?&]+") do
    local name, value = pair:match("^([^=]*)=(.*)$")
    if name then
      value = value:gsub("%%09", "+"):gsub("%%20", "+"):match("^%+*(.-)%+*$")
      pair = name .. "=" .. value
    end
    if value ~= "" then
      kept[#kept + 1] = pair
    end
  end
  return #kept > 0 and "?" .. table.concat(kept, "&") or ""
end

-- Stores what the access log says about the request: no query, no escape that could hold one, no key, nothing
-- that looks like another field or line, and nothing long.
local function note_for_log(handle, headers, target)
  local path = target:match("^[%w/._:~-]*"):gsub("ic_%w+", "ic_..."):gsub("^/v1/subjects/.*", "/v1/subjects/..."):sub(1, 200)
  local id = (headers:get("x-request-id") or ""):match("^[%w._:-]+$")
  note(handle, "path", path)
  if id then
    note(handle, "request_id", id:sub(1, 128))
  end
end

-- Returns what of a query finishes a sign-in: providers add parameters of their own.
local function sign_in_query(query)
  local kept = {}
  for pair in query:gmatch("[^?&]+") do
    if SIGN_IN_PARAMETERS[pair:match("^[^=]*")] then kept[#kept + 1] = pair end
  end
  return "?" .. table.concat(kept, "&")
end

-- Turns what the server says about the answer into what gRPC cannot carry: a redirect, and cookies.
local function take_browser_headers(headers)
  local location = headers:get("x-location")
  if location then
    headers:replace("location", location)
    headers:remove("x-location")
  end
  local count = headers:getNumValues("x-set-cookie")
  for i = 0, count - 1 do
    headers:add("set-cookie", headers:getAtIndex("x-set-cookie", i))
  end
  if count > 0 then headers:remove("x-set-cookie") end
end

local function is_page(path)
  return path == "/" or path == "/ui" or path == "/docs" or path:find("^/ui/") or path:find("^/docs/")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local target = headers:get(":path") or "" -- CONNECT has none
  note_for_log(handle, headers, target)
  local content_type = headers:get("content-type") or ""
  local limits = handle:virtualHost():metadata()
  if limits:get("max_bytes") and are_too_large(headers, limits) then -- not with CONNECT
    return refuse_headers(handle, content_type, limits)
  end
  headers:remove("x-http-method")
  headers:remove("x-body")
  headers:remove("x-body-encoding")
  -- Envoy's own errors become JSON unless this header marks the client as a gRPC client.
  if content_type == "application/grpc" or content_type:find("^application/grpc[+]") or content_type:find("^application/grpc[-]web") then
    headers:replace("x-native-grpc", "1")
    headers:remove("content-encoding") -- gRPC says in `grpc-encoding` how messages are compressed
    if content_type:find("^application/grpc[-]web") then
      note(handle, "grpc_web", true)
    end
    return
  end
  content_type = content_type:lower()
  headers:remove("x-native-grpc")
  headers:remove("grpc-timeout") -- belongs to gRPC, but Envoy would apply it
  local method = headers:get(":method")
  if method == "HEAD" then
    method = "GET"
    note(handle, "head", true)
    headers:replace(":method", method)
    headers:replace("x-http-method", "HEAD")
  end
  local path, query = target:match("^([^?]*)(.*)$")
  path = path:match("^(.+)/$") or path
  local upload = path:gsub(":upload$", "")
  local is_upload = method == "POST" and UPLOADS[upload]
  if not take_encoding(headers, is_upload) then
    handle:respond({ [":status"] = "415" }, "content-encoding must be gzip, or absent")
    return
  end
  if method == "GET" then
    note_stream(handle, headers, path)
  elseif is_upload then
    path = upload .. ":upload"
    if content_type:find("^application/json") or content_type:find("^[^;]*%+json") then
      headers:replace("x-body", "json") -- selects the route that limits its size
    end
  end
  if path == CALLBACK then query = sign_in_query(query) end
  if is_page(path) then query = "" end -- for scripts of the page
  headers:replace(":path", path .. clean_query(query))
  if headers:get("content-encoding") then
    note_gzip_tail(handle)
  end
end

-- Shortens the message of an error that Envoy answers itself: it may repeat all that the client sent.
local function shorten(handle)
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ""
  local before, message, after = text:match('^(.*"message":")(.*)("}%s*)$')
  if message and #message > MAX_MESSAGE_BYTES then
    -- No character and no escape sequence is cut in two.
    message = message:sub(1, MAX_MESSAGE_BYTES):gsub("[\192-\255][\128-\191]*$", ""):gsub("\\[^\\]*$", "")
    text = before .. message .. " ..." .. after
    body:setBytes(text)
    handle:headers():replace("content-length", tostring(#text))
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if not (headers:get("content-type") or ""):find("^application/grpc") then
    local status = headers:get("x-http-status") -- from the server, where gRPC has no such code
    if status then
      headers:replace(":status", status)
      headers:remove("x-http-status")
      if status == "204" then note(handle, "bodiless", true) end
      if status == "304" or status == "204" then -- the transcoder has described a body
        headers:remove("content-length")
        headers:remove("content-type")
      end
    end
    take_browser_headers(headers)
  end
  local size = tonumber(headers:get("content-length") or 0)
  if size > LONG_ERROR_BYTES and headers:get(":status"):find("^[45]") then
    shorten(handle)
    headers = handle:headers()
  end
  local noted = handle:streamInfo():dynamicMetadata():get(FILTER)
  if not noted then
    return
  end
  if noted["stream"] and headers:get(":status") == "200" then
    headers:replace("content-type", noted["stream"])
    headers:replace("cache-control", "no-cache")
  end
  if noted["head"] or noted["bodiless"] then
    for chunk in handle:bodyChunks() do
      chunk:setBytes("")
    end
  end
end
