"""Holds idle TLS connections open: HOST PORT NAME COUNT; each answers one request first; prints how many; ends with a line on stdin."""
import socket
import ssl
import sys

host, port, name, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
request = f"GET /1k HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode()
held = []
for _ in range(count):
    connection = context.wrap_socket(socket.create_connection((host, port)), server_hostname=name)
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received or len(received.split(b"\r\n\r\n", 1)[1]) < 1024:
        part = connection.recv(16384)
        if not part:
            break
        received += part
    if received.startswith(b"HTTP/1.1 200"):
        held.append(connection)
print(len(held), flush=True)
sys.stdin.readline()
