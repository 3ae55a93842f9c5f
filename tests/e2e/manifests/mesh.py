"""A webhook as service meshes have them: it puts its own containers first, writes both lists anew in another order, and gives every
container a variable, ours included."""

import base64
import json
import os
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

IMAGE = os.environ["IMAGE"]
WAIT = 'until test -s "$AWS_WEB_IDENTITY_TOKEN_FILE"; do sleep 0.1; done; exec sleep 100000'
OWN = [
    {"name": "mesh-init", "image": IMAGE, "command": ["true"]},
    # It gets the token too, and can only wait for it: it runs before the sidecar that fetches it.
    {"name": "mesh-proxy", "image": IMAGE, "command": ["sh", "-c", WAIT], "restartPolicy": "Always"},
]


def patch(spec):
    init = spec.get("initContainers", [])
    if any(container["name"] == "mesh-proxy" for container in init):
        return []
    containers = spec["containers"][::-1]
    for container in containers + init:
        container.setdefault("env", []).insert(0, {"name": "MESH", "value": "yes"})
    return [
        {"op": "add", "path": "/spec/initContainers", "value": OWN + init},
        {"op": "replace", "path": "/spec/containers", "value": containers},
    ]


class Mesh(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)["request"]
        operations = json.dumps(patch(request["object"]["spec"])).encode()
        response = {
            "uid": request["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(operations).decode(),
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        answer = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


server = ThreadingHTTPServer(("", 8443), Mesh)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/mesh/tls.crt", "/mesh/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
