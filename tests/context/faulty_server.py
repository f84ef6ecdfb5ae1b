"""An HTTP server between client and LLM server that loses, delays and spoils replies."""

import http.client
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("429", "500", "503", "timeout", "disconnect", "half", "garbage")


class FaultyServer:
    """Passes requests on to `upstream`, or answers them itself; some of them meet a fault first.

    Args:
        upstream: address of a server (`http://host:port`); None: the reply is what `said` makes of the request.
        said: reply to a request's body, with status and content.
        faults: the faults that a request meets before it gets through, at random; at most `most` of them.
        delay: seconds of a timeout.
    """

    def __init__(self, upstream=None, said=None, faults=(), most=2, delay=0.0, seed=0):
        rng, lock = random.Random(seed), threading.Lock()
        self.requests, self.met = [], []
        self.at_once = self.most_at_once = 0
        coming: dict[bytes, list[str]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    outer.requests.append((time.monotonic(), dict(self.headers), json.loads(body)))
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                    if body not in coming:
                        coming[body] = rng.choices(faults, k=rng.randint(0, most)) if faults else []
                    fault = coming[body].pop() if coming[body] else None
                    outer.met.append(fault)
                try:
                    self.meet(fault, body)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with lock:
                        outer.at_once -= 1

            def meet(self, fault, body):
                if fault == "timeout":
                    time.sleep(delay)
                    self.close_connection = True
                elif fault == "disconnect":
                    self.close_connection = True
                elif fault == "half":
                    self.reply(200, b'{"choices": [{"mess', length=500)
                    self.close_connection = True
                elif fault == "garbage":
                    self.reply(200, b"<html>busy</html>")
                elif fault is not None:
                    self.reply(int(fault), b'{"error": "fault"}', retry_after="0.01" if fault == "429" else None)
                else:
                    self.reply(*(self.pass_on(body) if upstream else said(json.loads(body))))

            def pass_on(self, body):
                connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=120)
                connection.request("POST", self.path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
                connection.close()
                return response.status, content

            def reply(self, status, content, length=None, retry_after=None):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(length or len(content)))
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
