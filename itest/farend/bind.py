"""The client of a leg: docs/relay-protocol.md.

A leg of an OPEN socket takes whoever comes first. One of a TOKEN socket wants
a handshake before anything else.
"""

import asyncio
import hmac
import ipaddress
import secrets
from typing import NamedTuple

MAGIC = bytes.fromhex("b19d736f636b6574")
VERSION = 1
SIZE = 84
HELLO, CHALLENGE, BIND, BOUND = 1, 2, 3, 4
NOWHERE = bytes(18)
NO_COOKIE = bytes(24)

# How long a datagram waits for its answer before it is sent again, and the
# time for all of a handshake over TCP, in seconds.
RESEND = (0.25, 0.5, 1, 2, 2)
TCP_TIMEOUT = 5
REBIND = 15


class Leg(NamedTuple):
    """A leg of a socket, and the token that lets its client in.

    There is no token for a leg of an OPEN socket.
    """

    socket_id: bytes
    num: int
    protocol: int
    token: bytes = b""

    def mac(self, data):
        """Return the MAC of the first bytes of a message."""
        data = (b"socketd bind" + self.socket_id
                + bytes([self.num, self.protocol]) + data)
        return hmac.digest(self.token, data, "sha256")[:16]


class Message(NamedTuple):
    """A message of the handshake. where is an address and a port."""

    type: int
    nonce: bytes
    where: bytes = NOWHERE
    cookie: bytes = NO_COOKIE

    def seal(self, leg):
        """Return the bytes of the message."""
        data = (MAGIC + bytes([VERSION, self.type]) + self.where
                + self.nonce + self.cookie)
        return data + leg.mac(data)

    def is_proper(self):
        """Say whether anybody may send it. If not it is no payload either."""
        if self.type == HELLO:
            return (self.where, self.cookie) == (NOWHERE, NO_COOKIE)
        return self.type in (CHALLENGE, BIND, BOUND)

    def address(self):
        """Return the address and port as text, an empty one for none."""
        if self.where == NOWHERE:
            return ""
        address = ipaddress.IPv6Address(self.where[:16])
        port = int.from_bytes(self.where[16:], "big")
        if address.ipv4_mapped:
            return f"{address.ipv4_mapped}:{port}"
        return f"[{address}]:{port}"


def parse(leg, data):
    """Return the message that a datagram is, or why it is none.

    That is "format", "version" or "mac".
    """
    if data[:8] != MAGIC or len(data) < 9:
        return "format"
    if data[8] != VERSION:
        return "version"
    if len(data) != SIZE:
        return "format"
    message = Message(data[9], data[28:44], data[10:28], data[44:68])
    if not hmac.compare_digest(leg.mac(data[:68]), data[68:]):
        return "mac"
    return message


class Datagrams(asyncio.DatagramProtocol):
    """The client of a UDP leg. take is called with each payload."""

    def __init__(self, leg, take):
        self.leg = leg
        self.take = take
        self.transport = None
        self.bound = not leg.token

        # What the next answer has to be, and who waits for it.
        self.want = None
        self.answer = None

    def connection_made(self, transport):
        """Note the socket, which is connected: nobody else is heard."""
        self.transport = transport

    def datagram_received(self, data, addr):
        """Tell messages from payload."""
        message = parse(self.leg, data) if self.leg.token else None
        if isinstance(message, Message):
            if self.want == (message.type, message.nonce):
                if not self.answer.done():
                    self.answer.set_result(message)
        elif self.bound:
            self.take(data)

    async def ask(self, message, answer_type):
        """Send a message until it is answered."""
        self.want = (answer_type, message.nonce)
        self.answer = asyncio.get_running_loop().create_future()
        for delay in RESEND:
            self.transport.sendto(message.seal(self.leg))
            done, _ = await asyncio.wait([self.answer], timeout=delay)
            if done:
                return self.answer.result()
        raise TimeoutError("the relay does not answer")

    async def bind(self):
        """Do a handshake and return what the relay sees of this client."""
        nonce = secrets.token_bytes(16)
        challenge = await self.ask(Message(HELLO, nonce), CHALLENGE)
        bound = await self.ask(challenge._replace(type=BIND), BOUND)
        self.bound = True
        return bound.address()


async def open_udp(leg, address, port, take):
    """Return a socket that is the client of a leg, and its address.

    The address is what the relay sees, or of an OPEN leg, which does not
    tell, that of the socket. The leg is the client's with its first datagram.
    """
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(
        lambda: Datagrams(leg, take), remote_addr=(address, port))
    try:
        if not leg.token:
            return client, "%s:%d" % transport.get_extra_info("sockname")[:2]
        return client, await client.bind()
    except BaseException:
        transport.close()
        raise


async def tcp_handshake(leg, reader, writer):
    """Bind a connection and return what the relay sees of it."""
    ask = Message(HELLO, secrets.token_bytes(16))
    for answer_type in (CHALLENGE, BOUND):
        writer.write(ask.seal(leg))
        answer = parse(leg, await reader.readexactly(SIZE))
        if (not isinstance(answer, Message) or answer.type != answer_type
                or answer.nonce != ask.nonce):
            raise ConnectionError("not the answer of a relay")
        ask = answer._replace(type=BIND)
    return answer.address()


async def open_tcp(leg, address, port):
    """Return the streams of a connection to a leg, and its address."""
    async with asyncio.timeout(TCP_TIMEOUT):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            if not leg.token:
                where = "%s:%d" % writer.get_extra_info("sockname")[:2]
                return reader, writer, where
            return reader, writer, await tcp_handshake(leg, reader, writer)
        except BaseException:
            writer.close()
            raise
