-- One public path, several kinds of body: JSON goes to the transcoder as it is, anything else to the sibling
-- binding `:upload`.  One public path, two kinds of stream: lines of JSON, or events for whoever accepts them.
local UPLOADS = { ["/v1/classify"] = true, ["/v1/batch"] = true }
local FILTER = "bodies"

-- Notes how the answer will be framed, which the transcoder does not tell in the content type.
local function note_stream(handle, headers, path)
  if path:find("^/v1/batch/[^/]+:watch$") then
    local accept = headers:get("accept") or ""
    local kind = accept:find("text/event-stream", 1, true) and "text/event-stream" or "application/x-ndjson"
    handle:streamInfo():dynamicMetadata():set(FILTER, "stream", kind)
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local content_type = (headers:get("content-type") or ""):lower()
  -- Envoy puts its own errors into the JSON form, except where this mark says that the caller speaks gRPC.
  if content_type:find("^application/grpc") then
    headers:replace("x-native-grpc", "1")
    return
  end
  headers:remove("x-native-grpc")
  local path, query = headers:get(":path"):match("^([^?]*)(.*)$")
  if headers:get(":method") == "GET" then
    note_stream(handle, headers, path)
  end
  if headers:get(":method") ~= "POST" then
    return
  end
  if UPLOADS[path] and not content_type:find("^application/json") then
    headers:replace(":path", path .. ":upload" .. query)
  end
end

function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata():get(FILTER)
  local headers = handle:headers()
  if noted and noted["stream"] and headers:get(":status") == "200" then
    headers:replace("content-type", noted["stream"])
    headers:replace("cache-control", "no-cache")
  end
end
