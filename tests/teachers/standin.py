"""Stands in for vLLM as the *command* of a managed teacher: answers like its server, or fails as told.

    python standin.py MODE [BEHAVIOUR FILE] --model … --port … (the engine's arguments)

MODE: `good`; `dies` at the start; `silent`: never listens; `crash`: is killed in the middle of its 5th request, in its
first life; `crashes`: in every life; `hang`: its 5th request and all later ones are never answered, in its first life;
`broken`: answers 500 and is ill; `refuses`: answers 400. Lives are counted in the file; beside it, FILE.asked has the
bodies of all requests to complete token ids, which are answered with how many they are.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

AT = 5


def main() -> None:
    mode, lives = sys.argv[1], Path(sys.argv[2])
    options = dict(zip(sys.argv[3::1], sys.argv[4::1], strict=False))
    lives.parent.mkdir(parents=True, exist_ok=True)
    with lives.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"pid": os.getpid(), "arguments": sys.argv[3:]}) + "\n")
    life = len(lives.read_text(encoding="utf-8").splitlines())
    print(f"stand-in, life {life}", flush=True)
    if mode == "dies":
        sys.exit("RuntimeError: no memory for the model")
    if mode == "silent":
        time.sleep(600)
    # As vLLM's engine does, a child of ours does the work, and outlives us when we are killed.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={})
    signal.signal(signal.SIGTERM, lambda *_: (child.kill(), os._exit(0)))
    name, key = options["--served-model-name"], os.environ["VLLM_API_KEY"]
    count, tokens, lock = 0, 0, threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/metrics":
                text = (
                    f'vllm:generation_tokens_total{{engine="0"}} {tokens}.0\n'
                    f'vllm:prompt_tokens_total{{engine="0"}} {count}.0\nvllm:kv_cache_usage_perc{{engine="0"}} 0.25\n'
                )
                return self.reply(200, text.encode())
            if self.path == "/health":
                return self.reply(503 if mode == "broken" and count else 200, b"")
            model = {"id": name, "max_model_len": 100}
            return self.reply(200, json.dumps({"data": [model]}).encode())

        def do_POST(self) -> None:
            nonlocal count, tokens
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.headers["authorization"] != f"Bearer {key}":
                return self.reply(401, b"{}")
            with lock:
                count += 1
                number = count
            if number >= AT and (mode == "crashes" or (mode == "crash" and life == 1)):
                print("Segmentation fault in life", life, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if mode == "hang" and life == 1 and number >= AT:
                time.sleep(600)
            if mode == "broken":
                return self.reply(500, b'{"error": {"message": "EngineCore encountered an issue"}}')
            if mode == "refuses":
                return self.reply(400, b'{"error": {"message": "stop_token_ids are out of range"}}')
            with lock:
                tokens += 5
                if "prompt" in body:
                    with lives.with_suffix(".asked").open("a", encoding="utf-8") as asked:
                        asked.write(json.dumps(body) + "\n")
            usage = {"prompt_tokens": body["max_tokens"], "completion_tokens": 5}
            choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
            if "prompt" in body:
                choice["text"] = str(len(body["prompt"]))
            else:
                content = body["messages"][-1]["content"][::-1]
                choice["message"] = {"role": "assistant", "content": content}
            return self.reply(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    Server(("127.0.0.1", int(options["--port"])), Handler).serve_forever(0.05)


if __name__ == "__main__":
    main()
