"""An MCP server without the SDK, for what one of it would never do: `python mcp_peer.py [HABIT]`. Started by test_mcp.py.

PEER_LOG names a file where it notes its process id, and every request that was cancelled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HABIT = sys.argv[1] if len(sys.argv) > 1 else "decent"
LOG = Path(os.environ["PEER_LOG"])

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
TOOLS: list[dict[str, Any]] = [
    {"name": "echo", "description": "Say it again.", "inputSchema": TEXT, "annotations": {"readOnlyHint": True}},
    {"name": "again", "inputSchema": NOTHING, "annotations": {"idempotentHint": True}},
    {"name": "parts", "inputSchema": NOTHING},
    {"name": "structured", "inputSchema": NOTHING},
    {"name": "fails", "inputSchema": NOTHING},
    {"name": "refuses", "inputSchema": NOTHING},
    {"name": "odd", "inputSchema": NOTHING},
    {"name": "large", "inputSchema": NOTHING},
    {"name": "floods", "inputSchema": NOTHING},
    {"name": "chatters", "inputSchema": NOTHING},
    {"name": "silent", "inputSchema": NOTHING},
    {"name": "dies", "inputSchema": NOTHING, "annotations": {"readOnlyHint": True}},
]


def text(*parts: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": part} for part in parts]}


def called(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if name == "dies":
        os._exit(3)
    if name == "floods":
        while True:
            sys.stdout.write("x" * 65_536)
    if name == "chatters":
        print("starting up ...", "{}", "\udce4".encode("utf-8", "surrogateescape"), "[1]", sep="\n", flush=True)
    image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
    return {
        "echo": lambda: text(arguments["text"], f"from {os.getpid()}"),
        "again": lambda: text(),
        "parts": lambda: {"content": [{"type": "text", "text": "a picture:"}, image]},
        "structured": lambda: {**text("seven"), "structuredContent": {"number": 7}},
        "fails": lambda: {**text("no such file"), "isError": True},
        "chatters": lambda: text("after all that"),
        "odd": lambda: {"content": 5},
        "large": lambda: text("x" * 5_000_000),
    }[name]()


def note(line: str) -> None:
    with LOG.open("a") as file:
        file.write(f"{line}\n")


def listed(cursor: str | None) -> dict[str, Any]:
    if HABIT == "endless":
        return {"tools": [{"name": f"t{int(cursor or 0)}", "inputSchema": NOTHING}], "nextCursor": str(int(cursor or 0) + 1)}
    if HABIT == "schema":
        return {"tools": [{"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://x.example/"}}}}]}
    if HABIT == "name":
        return {"tools": [{"name": "two words", "inputSchema": NOTHING}]}
    return {"tools": TOOLS}


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        server = {"name": "peer", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return listed(params.get("cursor"))
    if method == "tools/call" and params["name"] == "silent":
        note("silent")
        return None
    if method == "tools/call" and params["name"] != "refuses":
        return called(params["name"], params.get("arguments") or {})
    return {"error": {"code": -32601 if method != "tools/call" else -32602, "message": f"no {method} here"}}


def main() -> None:
    note(f"pid {os.getpid()}")
    if HABIT == "exits":
        sys.exit("nothing works today")
    if HABIT == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(f"pid {subprocess.Popen(['sleep', '60']).pid}")
    for line in sys.stdin:
        message = json.loads(line)
        if message["method"] == "notifications/cancelled":
            note("cancelled")
        if HABIT == "mute" or "id" not in message:
            continue
        result = answer(message)
        if result is not None:
            said = {"error": result["error"]} if "error" in result else {"result": result}
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}), flush=True)
    if HABIT == "stubborn":
        time.sleep(60)


main()
