"""What the protocol needs of lnd, through its REST API."""

import asyncio
import base64
import json
import ssl

# How long one call may take, in seconds, and how large a line of the stream
# may be: a stranger can have lnd hand over a message of 65,533 bytes.
TIMEOUT = 10
MAX_LINE = 256 * 1024


class LndError(Exception):
    """lnd does not do what it was asked for."""


class Lnd:
    """An lnd that is at host:port."""

    def __init__(self, address, tls_cert, macaroon):
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.tls = ssl.create_default_context(cafile=tls_cert)
        with open(macaroon, "rb") as file:
            self.macaroon = file.read().hex()

    async def call(self, method, path, body=None):
        """Make a call and return the reader and writer of what it answers.

        HTTP/1.0 has no chunks: the answer goes on until the connection ends.
        """
        data = json.dumps(body).encode() if body is not None else b""
        reader, writer = await asyncio.open_connection(
            self.host, self.port, ssl=self.tls, limit=MAX_LINE)
        try:
            writer.write((
                f"{method} {path} HTTP/1.0\r\n"
                f"Host: {self.host}\r\n"
                f"Grpc-Metadata-macaroon: {self.macaroon}\r\n"
                f"Content-Length: {len(data)}\r\n\r\n"
            ).encode() + data)
            await writer.drain()
            status = (await reader.readline()).split()
            while (await reader.readline()).strip():
                pass
            if len(status) < 2 or status[1] != b"200":
                text = (await reader.read(1000)).decode(errors="replace")
                raise LndError(f"{method} {path}: {text.strip() or status}")
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def ask(self, method, path, body=None):
        """Make a call that has one answer and return it."""
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await self.call(method, path, body)
            try:
                return json.loads(await reader.read())
            finally:
                writer.close()

    async def pubkey(self):
        """Return the node's public key."""
        info = await self.ask("GET", "/v1/getinfo")
        return bytes.fromhex(info["identity_pubkey"])

    async def send(self, peer, msg_type, body):
        """Send a message to a peer. It is an error if that is not connected.

        That lnd has taken it does not tell that it arrives.
        """
        await self.ask("POST", "/v1/custommessage", {
            "peer": base64.b64encode(peer).decode(),
            "type": msg_type,
            "data": base64.b64encode(body).decode(),
        })

    async def messages(self):
        """Yield the sender, type and body of each message, until it breaks.

        There may be nothing at all, not even a status, until one comes.
        """
        reader, writer = await self.call("GET", "/v1/custommessage/subscribe")
        try:
            while line := await reader.readline():
                message = json.loads(line).get("result")
                if message is None:
                    raise LndError(line.decode().strip())
                yield (base64.b64decode(message["peer"]), message["type"],
                       base64.b64decode(message["data"]))
        finally:
            writer.close()
