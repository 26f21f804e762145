"""A server on this machine that speaks as OpenAI's does, well or badly: `with scripted(answer) as
server: server.url`.
"""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """`answer(path, body, nth)` returns (status, dict or bytes[, headers]) or a number of seconds
    to hang for.
    """

    def __init__(self, answer):
        self.answer, self.bodies, self.keys, self.lock = answer, [], [], threading.Lock()
        self.most_at_once, self.now = 0, 0

    def handle(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            nth = len(self.bodies)
            self.bodies.append(body)
            self.keys.append(handler.headers.get("Authorization", ""))
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
        try:
            said = self.answer(handler.path, body, nth)
            if isinstance(said, int | float):
                time.sleep(said)
                return
            status, content, *headers = said
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            for name, value in (headers[0] if headers else {}).items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(raw)))
            handler.end_headers()
            handler.wfile.write(raw)
        finally:
            with self.lock:
                self.now -= 1


@contextmanager
def scripted(answer):
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            server.handle(self)

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_):
            pass

    listening = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{listening.server_port}/v1"
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()


def chat(text, **more):
    """A chat completion of one or several texts."""
    texts = [text] if isinstance(text, str) else text
    choices = [
        {"index": i, "message": {"role": "assistant", "content": one}, "finish_reason": "stop"}
        for i, one in enumerate(texts)
    ]
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": choices,
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        **more,
    }


def embeddings(vectors, order=None):
    data = [
        {"object": "embedding", "index": i, "embedding": list(map(float, vector))}
        for i, vector in enumerate(vectors)
    ]
    return {
        "object": "list",
        "model": "m",
        "data": [data[i] for i in order or range(len(data))],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
