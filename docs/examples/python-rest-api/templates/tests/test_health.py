import json
import threading
import unittest
import urllib.request
from http.server import ThreadingHTTPServer

from app.main import Api


class Health(unittest.TestCase):
    def test_the_service_says_that_it_is_well(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/health") as answer:
                self.assertEqual(json.load(answer), {"status": "ok", "service": "${name}"})
        finally:
            server.shutdown()
            server.server_close()
