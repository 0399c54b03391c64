#!/usr/bin/env python3
"""Holds a running reference city to docs/city-openapi.yaml with schemathesis.

Usage: tests/city/schemathesis.py READY_FILE [--examples N]

READY_FILE is what `reference-city --seed --control … --ready-file READY_FILE` wrote: port, control port, trust anchor,
users. The script makes a virtual environment below target/schemathesis/ on first use (PyPI), enrols certificates from
the city with openssl, signs a user in, and runs schemathesis once per host name. It ends with 1 if any run found a
violation, and with 2 if it could not begin. Needs Python 3.9 or later with venv, curl and openssl.

The feed is left out: it has no end. tests/gateway_interface.rs holds the city to its part of the file.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = ROOT / "target" / "schemathesis"
VERSION = "4.32.5"
HOSTS = {"est": "est.takahagi.localhost", "gw": "gw.takahagi.localhost", "renraku": "renraku.takahagi.localhost"}

# Loaded by schemathesis: sends *.localhost to loopback whatever the resolver thinks (RFC 6761 section 6.3), and makes
# certification requests for fresh keys, which no schema can describe.
HOOKS = '''
import os, socket, subprocess
import schemathesis
from hypothesis import strategies

_resolve = socket.getaddrinfo
def resolve(host, *arguments, **named):
    if isinstance(host, str) and host.endswith(".localhost"):
        host = "127.0.0.1"
    return _resolve(host, *arguments, **named)
socket.getaddrinfo = resolve

def request(extension):
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", os.devnull, "-subj", "/", "-outform", "DER"] + extension
    der = subprocess.run(command, check=True, capture_output=True).stdout
    return subprocess.run(["openssl", "base64", "-A"], input=der, check=True, capture_output=True).stdout

plain = [request([]) for _ in range(4)]
lan = [request(["-addext", "subjectAltName=DNS:renraku.takahagi.localhost"]) for _ in range(4)]
schemathesis.openapi.media_type("application/pkcs10", strategies.sampled_from(plain))

@schemathesis.hook
def map_body(context, body):
    """Below the label `lan`, names are asked for."""
    return lan[plain.index(body)] if body in plain and "/lan/" in context.operation.path else body
'''

# A request for a certificate is well-formed or not by rules no schema can state, so there 400 is no contradiction.
CONFIG = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", {malformed}"401", "403", "404", "409", "416", "429"]
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "409", "413", "415", "429"]
missing_required_header.expected-statuses = ["400", "403"]

[warnings]
fail-on = ["missing_auth"]
"""


def environment():
    """The interpreter of a virtual environment that has schemathesis."""
    python = VENV / "bin" / "python"
    stamp = VENV / f"has-{VERSION}"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"schemathesis=={VERSION}"]
        subprocess.run(install, check=True)
        stamp.touch()
    return VENV / "bin" / "schemathesis"


class City:
    """A running city and what this script has from it."""

    def __init__(self, ready, scratch):
        self.ready = json.loads(pathlib.Path(ready).read_text(encoding="utf-8"))
        self.scratch = pathlib.Path(scratch)

    def url(self, host):
        return f"https://{HOSTS[host]}:{self.ready['port']}"

    def curl(self, *arguments):
        command = ["curl", "-sS", "--fail-with-body", "--cacert", self.ready["ca_file"], *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def number(self):
        control = f"http://127.0.0.1:{self.ready['control_port']}/control/number"
        body = json.dumps({"facility": "tkh-1001"})
        return json.loads(self.curl("-H", "content-type: application/json", "-d", body, control))

    def identity(self, name):
        """A key and a facility certificate for a fresh number."""
        key, csr, pem = (self.scratch / f"{name}{end}" for end in (".key", ".csr", ".pem"))
        new = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        der = subprocess.run(
            [*new, "-keyout", str(key), "-subj", "/", "-outform", "DER"], check=True, capture_output=True
        ).stdout
        csr.write_bytes(subprocess.run(["openssl", "base64", "-A"], input=der, check=True, capture_output=True).stdout)
        made = self.number()
        answer = self.curl(
            "-u", f"{made['number']}:{made['code']}", "-H", "content-type: application/pkcs10",
            "--data-binary", f"@{csr}", f"{self.url('est')}/.well-known/est/simpleenroll",
        )
        der = subprocess.run(["openssl", "base64", "-d", "-A"], input=answer, check=True, capture_output=True).stdout
        printed = subprocess.run(
            ["openssl", "pkcs7", "-inform", "DER", "-print_certs"], input=der, check=True, capture_output=True
        ).stdout.decode()
        end = "-----END CERTIFICATE-----\n"
        for part in printed.split(end)[:-1]:
            certificate = part[part.index("-----BEGIN"):] + end
            text = subprocess.run(
                ["openssl", "x509", "-noout", "-ext", "basicConstraints"], input=certificate.encode(),
                check=True, capture_output=True,
            ).stdout
            if b"CA:FALSE" in text:
                pem.write_text(certificate)
        return pem, key

    def session(self, pem, key):
        """The cookie of a signed-in user."""
        user = next(user for user in self.ready["users"] if user["facility"] == "tkh-1001")
        body = json.dumps({"user_id": user["user_id"], "password": user["password"]})
        head = self.curl(
            "--cert", str(pem), "--key", str(key), "-D", "-", "-o", os.devnull, "-H", "content-type: application/json",
            "-d", body, f"{self.url('renraku')}/staff/api/session",
        ).decode()
        line = next(line for line in head.splitlines() if line.lower().startswith("set-cookie:"))
        return line.split(":", 1)[1].split(";")[0].strip()


def run(tool, city, host, tags, identity, examples, number=None, cookie=None):
    """One run of schemathesis; true if it found nothing."""
    hooks, config = city.scratch / "renraku_hooks.py", city.scratch / "schemathesis.toml"
    hooks.write_text(HOOKS)
    config.write_text(CONFIG.format(malformed='"400", ' if number else ""))
    pem, key = identity
    command = [
        str(tool), "--config-file", str(config), "run", str(ROOT / "docs" / "city-openapi.yaml"),
        "--url", city.url(host), "--tls-verify", city.ready["ca_file"],
        "--request-cert", str(pem), "--request-cert-key", str(key), "--request-timeout", "10",
        "--checks", "all", "--max-examples", str(examples), "--generation-deterministic",
        "--phases", "examples,coverage,fuzzing", "--continue-on-failure",
        "--exclude-path", "/gateway/v1/feed", "--no-color",
    ]
    if number:
        command += ["--auth", number]
    if cookie:
        # Given by hand and not generated, or every call would be one of a stranger.
        command += ["--header", f"Cookie: {cookie}", "--generation-with-security-parameters", "false"]
    for tag in tags:
        command += ["--include-tag", tag]
    variables = {**os.environ, "SCHEMATHESIS_HOOKS": "renraku_hooks", "PYTHONPATH": str(city.scratch)}
    print(f"== {host}: {', '.join(tags)}", flush=True)
    return subprocess.run(command, env=variables, cwd=city.scratch, check=False).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ready_file")
    parser.add_argument("--examples", type=int, default=25, help="test cases per operation (default 25)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            tool = environment()
            city = City(arguments.ready_file, scratch)
            box, spare = city.identity("box"), city.identity("spare")
            session, closing = city.session(*box), city.session(*box)
            made = city.number()
        except (OSError, StopIteration, subprocess.CalledProcessError) as error:
            print(f"cannot begin: {error}", file=sys.stderr)
            return 2
        runs = [
            ("est", ["est"], box, {"number": f"{made['number']}:{made['code']}"}),
            ("gw", ["gateway"], box, {}),
            ("renraku", ["staff"], box, {"cookie": session}),
            # These take away what they are called with, and so come last and by themselves.
            ("renraku", ["session-end"], box, {"cookie": closing}),
            ("gw", ["decommission"], spare, {}),
        ]
        clean = [run(tool, city, host, tags, who, arguments.examples, **more) for host, tags, who, more in runs]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
