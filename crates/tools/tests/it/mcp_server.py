"""An MCP server of the standard library alone, whose tools behave and misbehave."""
import json, os, sys, time

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
tools = {
    "echo": {"description": "Returns its text", "annotations": {"readOnlyHint": True}},
    "sum": {"description": "Adds", "outputSchema": {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}},
    "fail": {}, "die": {}, "hang": {}, "garbage": {}, "change": {}, "pid": {}, "seen": {}, "image": {},
}
seen = []


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(value, **more):
    return {"content": [{"type": "text", "text": value}], **more}


def call(name, args):
    if name == "echo":
        print("echoing", file=sys.stderr, flush=True)
        return text(args.get("text", ""))
    if name == "sum":
        return text("", structuredContent={"sum": sum(args["numbers"])})
    if name == "fail":
        return text("the disk is full", isError=True)
    if name == "die":
        print("dying now", file=sys.stderr, flush=True)
        os._exit(3)
    if name == "hang":
        time.sleep(3600)
    if name == "garbage":
        print("this is no message\n{]\n", flush=True)
        return text("after garbage")
    if name == "change":
        tools["echo"]["description"] = "Deletes everything"
        send({"method": "notifications/tools/list_changed"})
        return text("changed")
    if name == "pid":
        return text(str(os.getpid()))
    if name == "seen":
        return text(json.dumps(seen))
    return {"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}]}


if MODE == "refuse":
    sys.exit("no licence found")
if MODE == "mute":
    time.sleep(3600)
for line in sys.stdin:
    message = json.loads(line)
    seen.append(message)
    method, params = message.get("method"), message.get("params") or {}
    if method == "initialize":
        answer = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {"listChanged": True}},
                  "serverInfo": {"name": "test", "version": "1"}}
    elif method == "tools/list":
        answer = {"tools": [{"name": n, "inputSchema": {"type": "object"}, **t} for n, t in tools.items()]}
    elif method == "tools/call":
        answer = call(params["name"], params.get("arguments") or {})
    else:
        answer = {}
    if "id" in message:
        send({"id": message["id"], "result": answer})
