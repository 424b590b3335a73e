-- Two paths accept several kinds of body: JSON goes to the transcoder unchanged, every other body goes to
-- the sibling binding `:upload`.  One path has two kinds of response: lines of JSON, or server-sent events
-- for clients that accept them.
local UPLOADS = { ["/v1/classify"] = true, ["/v1/batch"] = true }
local FILTER = "bodies"

-- Stores the content type of the response stream: the transcoder answers `application/json` for both kinds.
local function note_stream(handle, headers, path)
  if path:find("^/v1/batch/[^/]+:watch$") then
    local accept = headers:get("accept") or ""
    local kind = accept:find("text/event-stream", 1, true) and "text/event-stream" or "application/x-ndjson"
    handle:streamInfo():dynamicMetadata():set(FILTER, "stream", kind)
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type") or ""
  -- Envoy's own errors become JSON unless this header marks the client as a gRPC client.
  if content_type == "application/grpc" or content_type:find("^application/grpc%+") then
    headers:replace("x-native-grpc", "1")
    return
  end
  headers:remove("x-native-grpc")
  headers:remove("grpc-timeout") -- belongs to gRPC, but Envoy would apply it
  local path, query = headers:get(":path"):match("^([^?]*)(.*)$")
  local method = headers:get(":method")
  if method == "GET" then
    note_stream(handle, headers, path)
  elseif method == "POST" and UPLOADS[path] and not content_type:lower():find("^application/json") then
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
