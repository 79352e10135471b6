"""An HTTP server on 127.0.0.1 for tests of downloads."""

from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Thread


@dataclass(frozen=True)
class Reply:
    """What the server answers for one file name.

    Args:
        body: the bytes that it sends.
        status: the HTTP status.
        promised: the Content-Length, where it is not the body's.
        gate: holds every request back until the barrier's number of them is there.
    """

    body: bytes = b""
    status: int = 200
    promised: int | None = None
    gate: Barrier | None = None


class FileServer:
    """Serves while its `with` block runs, and keeps count of requests.

    Attributes:
        replies: file name -> `Reply`; any other name is a 404.
        requests: the file names that were asked for, in order.
    """

    def __init__(self):
        self.replies: dict[str, Reply] = {}
        self.requests: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Refuse connections from now on; a second call does nothing."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def url(self, name):
        return f"http://127.0.0.1:{self._http.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, files, *args):
        self.files = files
        super().__init__(*args)  # answers the request

    def do_GET(self):
        name = self.path.lstrip("/")
        self.files.requests.append(name)
        reply = self.files.replies.get(name, Reply(status=404))
        if reply.gate:
            reply.gate.wait()
        self.send_response(reply.status)
        self.send_header("Content-Length", str(reply.promised or len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format, *args):
        """Nothing: the test says what went wrong."""
